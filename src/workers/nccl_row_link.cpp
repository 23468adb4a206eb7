#include "workers/nccl_row_link.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {

NcclRowLink::NcclRowLink(std::unique_ptr<NcclLinks> links, Options options)
    : links_(std::move(links)), options_(std::move(options)) {}

NcclRowLink::~NcclRowLink() {
  if (on_its_way_.size == 0) return;
  try {
    links_->Wait(Until());  // the memory must outlive the transfer
  } catch (const Error& error) {
    log::Debug("rows were lost at the end of the run: ", error.what());
  }
}

TimePoint NcclRowLink::Until() const { return std::chrono::steady_clock::now() + options_.timeout; }

void NcclRowLink::Send(const Step& step, Payload rows) {
  Check(rows.on_device, "rows in the host's memory were given to NCCL");
  if (on_its_way_.size > 0) links_->Wait(Until());
  links_->SetPlace(options_.stage, step.number);
  on_its_way_ = std::move(rows);
  links_->Send(options_.peer, on_its_way_.data, on_its_way_.size, Until());
}

Payload NcclRowLink::Receive(const Step& step, int64_t bytes) {
  links_->SetPlace(options_.stage, step.number);
  Payload rows = options_.allocate(bytes);
  Check(rows.on_device && rows.size == bytes, "memory of ", rows.size, " bytes for ", bytes);
  links_->Receive(options_.peer, rows.data, bytes, Until());
  links_->Wait(Until());
  return rows;
}

}  // namespace xcomposer
