#include "engine/batch_part.h"

namespace xcomposer {

Batch Merge(std::span<const BatchPart> parts) {
  Batch batch;
  for (const BatchPart& part : parts) {
    const int64_t first_row = batch.rows();
    batch.ids.insert(batch.ids.end(), part.ids.begin(), part.ids.end());
    batch.sequences.push_back(part.slice);
    batch.sequences.back().first_row = first_row;
    for (FeatureSpan span : part.features) {
      span.first_row += first_row;
      batch.features.push_back(span);
    }
    batch.copies.insert(batch.copies.end(), part.copies.begin(), part.copies.end());
  }
  return batch;
}

}  // namespace xcomposer
