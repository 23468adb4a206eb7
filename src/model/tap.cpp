#include "model/tap.h"

#include <utility>

namespace xcomposer {

void PutTap(const TapSink& taps, const std::string& name, const at::Tensor& tensor) {
  if (!taps.Wants(name) || !taps.put || tensor.is_meta()) return;
  const at::Tensor read = tensor.scalar_type() == at::kByte ? tensor : tensor.to(at::kFloat);
  const at::Tensor host = read.cpu().contiguous();
  Tap tap;
  tap.name = name;
  tap.shape = host.sizes().vec();
  if (host.scalar_type() == at::kByte) {
    const auto* bytes = host.data_ptr<uint8_t>();
    tap.bytes.assign(bytes, bytes + host.numel());
  } else {
    const auto* values = host.data_ptr<float>();
    tap.values.assign(values, values + host.numel());
  }
  taps.put(std::move(tap));
}

}  // namespace xcomposer
