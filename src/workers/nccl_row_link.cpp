#include "workers/nccl_row_link.h"

#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace xcomposer {

NcclRowLink::NcclRowLink(std::unique_ptr<NcclLink> link, Options options)
    : options_(std::move(options)), link_(std::move(link)) {}

NcclRowLink::~NcclRowLink() {
  if (on_its_way_.size == 0) return;
  try {
    link_->Wait(Until());  // the memory must outlive the transfer
  } catch (const Error& error) {
    log::Debug("rows were lost at the end of the run: ", error.what());
  }
}

TimePoint NcclRowLink::Until() const { return std::chrono::steady_clock::now() + options_.timeout; }

void NcclRowLink::Send(const Step& step, Payload rows) {
  Check(rows.on_device, "rows in the host's memory were given to NCCL");
  if (on_its_way_.size > 0) link_->Wait(Until());
  link_->SetPlace(options_.stage, step.number);
  on_its_way_ = std::move(rows);
  options_.follow(on_its_way_);
  link_->Send(on_its_way_.data, on_its_way_.size, Until());
}

Payload NcclRowLink::Receive(const Step& step, int64_t bytes) {
  link_->SetPlace(options_.stage, step.number);
  Payload rows = options_.allocate(bytes);
  Check(rows.on_device && rows.size == bytes, "memory of ", rows.size, " bytes for ", bytes);
  link_->Receive(rows.data, bytes, Until());
  link_->Wait(Until());
  return rows;
}

}  // namespace xcomposer
