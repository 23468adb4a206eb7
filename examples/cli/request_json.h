#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "image_roots.h"
#include "xcomposer/error.h"
#include "xcomposer/request.h"

namespace xcomposer::cli {

struct ParsedRequest {
  Request request;
  bool forward = false;  ///< "call": "forward": the prompt once, no generation
};

using RequestOrError = std::variant<ParsedRequest, Error>;

struct RequestFile {
  bool is_list = false;
  std::vector<RequestOrError> items;  ///< in the file's order; what is wrong with one stays its own
};

/// Parses a request, or a list of them, written as JSON. The keys are those of README, "Requests";
/// an unknown one is an error that names it. Throws kRequest where the text as a whole is not
/// usable.
RequestFile ParseRequests(std::string_view json, const ImageRoots& roots, const std::string& name);

/// The same from a file, whose folder comes after `roots`.
RequestFile ReadRequestFile(const std::string& path, ImageRoots roots);

}  // namespace xcomposer::cli
