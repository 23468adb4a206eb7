#include "engine/search.h"

#include <utility>

#include "base/check.h"
#include "engine/beam_search.h"
#include "engine/token_search.h"

namespace xcomposer {

SearchStep Search::Accept(int32_t id) {
  Check(false, "id ", id, " was chosen for a search that must see the scores");
  return {};
}

std::unique_ptr<Search> MakeSearch(const SearchOptions& options, std::vector<int32_t> penalty_ids,
                                   int64_t vocab) {
  Validate(options, vocab);
  Require(
      !penalty_ids.empty(), ErrorKind::kRequest,
      "penalty_ids: found none, expected the ids that the processors see before the first new id");
  for (const int32_t id : penalty_ids) {
    Require(id >= 0 && id < vocab, ErrorKind::kRequest, "penalty_ids: found ", id,
            ", allowed is 0 to ", vocab - 1);
  }
  if (options.num_beams > 1) {
    return std::make_unique<BeamSearch>(options, std::move(penalty_ids), vocab);
  }
  return std::make_unique<TokenSearch>(options, std::move(penalty_ids), vocab);
}

}  // namespace xcomposer
