#include "measure/request_work.h"

namespace xcomposer::measure {
namespace {

Workload WorkloadOf(const Storage& storage, int64_t context) {
  Workload workload;
  workload.context = context;
  workload.images = 0;
  workload.prefill_chunk = storage.prefill_chunk;
  workload.weights = storage.weights;
  return workload;
}

Work Times(Work work, double count) { return {work.bytes * count, work.operations * count}; }

}  // namespace

Work PrefillWork(const ModelConfig& config, const Storage& storage, const PromptShape& prompt) {
  const Workload workload = WorkloadOf(storage, prompt.rows);
  Work work =
      Times(PrefillWorkOfLayer(config, workload, prompt), static_cast<double>(config.layers));
  work += DecodeWorkOfHead(config, workload, 1);
  return work;
}

Work DecodeWork(const ModelConfig& config, const Storage& storage, int64_t context,
                int64_t tokens) {
  Work work;
  for (int64_t step = 1; step <= tokens; ++step) {
    const Workload workload = WorkloadOf(storage, context + step);
    work += Times(DecodeWorkOfLayer(config, workload, 1, storage.kv),
                  static_cast<double>(config.layers));
    work += DecodeWorkOfEmbeddings(config, workload, 1);
    work += DecodeWorkOfHead(config, workload, 1);
  }
  return work;
}

Work VisionWork(const ModelConfig& config, const Storage& storage, const PictureShape& picture) {
  Workload workload = WorkloadOf(storage, picture.rows);
  workload.images = 1;
  workload.picture = picture;
  return PictureWork(config, workload);
}

}  // namespace xcomposer::measure
