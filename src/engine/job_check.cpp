#include "engine/job_check.h"

#include "base/check.h"

namespace xcomposer {
namespace {

void CheckSpan(const Job& job, const PictureSpan& span, int64_t after) {
  const int64_t rows = static_cast<int64_t>(job.ids.size());
  const int64_t pictures = static_cast<int64_t>(job.pictures.size());
  Require(span.picture >= 0 && span.picture < pictures, ErrorKind::kRequest,
          "picture span: found picture ", span.picture, ", the job has ", pictures);
  Require(job.pictures[span.picture] != nullptr, ErrorKind::kRequest, "picture ", span.picture,
          " is missing");
  Require(span.first_row >= after && span.row_count > 0 && span.row_count <= rows - span.first_row,
          ErrorKind::kRequest, "picture span: found ", span.row_count, " rows from row ",
          span.first_row, ", expected rows between ", after, " and ", rows);
  for (int64_t row = span.first_row; row < span.first_row + span.row_count; ++row) {
    Require(job.ids[row] == -1, ErrorKind::kRequest, "ids: found ", job.ids[row], " at row ", row,
            " of picture ", span.picture, ", expected -1");
  }
}

void CheckText(const Job& job, int64_t begin, int64_t end, int64_t vocab) {
  for (int64_t row = begin; row < end; ++row) {
    Require(job.ids[row] >= 0 && job.ids[row] < vocab, ErrorKind::kRequest, "ids: found ",
            job.ids[row], " at row ", row, ", allowed is 0 to ", vocab - 1);
  }
}

}  // namespace

void Validate(const Job& job, int64_t vocab) {
  Require(!job.ids.empty(), ErrorKind::kRequest, "the prompt is empty, expected at least one id");
  int64_t row = 0;
  for (const PictureSpan& span : job.spans) {
    CheckSpan(job, span, row);
    CheckText(job, row, span.first_row, vocab);
    row = span.first_row + span.row_count;
  }
  CheckText(job, row, static_cast<int64_t>(job.ids.size()), vocab);
}

}  // namespace xcomposer
