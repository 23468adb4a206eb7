#include "row_list.h"

#include <regex>
#include <set>
#include <sstream>

#include "xcomposer/error.h"

namespace xcomposer::cli {

RowList RowList::Parse(const std::string& text) {
  static const std::regex kSpan("(-?[0-9]{1,12})(?:-(-?[0-9]{1,12}))?");
  RowList rows;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    std::smatch match;
    if (!std::regex_match(part, match, kSpan)) {
      throw Error(ErrorKind::kUsage,
                  "--rows: expected rows and ranges such as 0-7,-8--1, found '" + part + "'");
    }
    const int64_t first = std::stoll(match[1]);
    rows.spans_.push_back({first, match[2].matched ? std::stoll(match[2]) : first});
  }
  if (rows.spans_.empty()) throw Error(ErrorKind::kUsage, "--rows: the list is empty");
  return rows;
}

std::vector<int64_t> RowList::Resolve(int64_t length) const {
  std::set<int64_t> rows;
  for (const Span& span : spans_) {
    const int64_t first = span.first < 0 ? span.first + length : span.first;
    const int64_t last = span.last < 0 ? span.last + length : span.last;
    if (first < 0 || last < first || last >= length) {
      throw Error(ErrorKind::kRequest,
                  "--rows: " + std::to_string(span.first) + " to " + std::to_string(span.last) +
                      " is no range of a sequence of " + std::to_string(length) + " rows");
    }
    for (int64_t row = first; row <= last; ++row) rows.insert(row);
  }
  return {rows.begin(), rows.end()};
}

}  // namespace xcomposer::cli
