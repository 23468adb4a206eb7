#include "transport/transport.h"

#include <cstring>
#include <new>

#include "base/check.h"

namespace xcomposer {

Payload Payload::Allocate(int64_t size) {
  Check(size >= 0, "a payload of ", size, " bytes");
  if (size == 0) return {};
  constexpr std::align_val_t kAlignment{64};
  auto* data = static_cast<std::byte*>(::operator new(static_cast<size_t>(size), kAlignment));
  std::shared_ptr<void> owner(data, [](void* p) { ::operator delete(p, kAlignment); });
  return {std::move(owner), data, size};
}

Payload Payload::Of(const std::string& text) {
  Payload payload = Allocate(static_cast<int64_t>(text.size()));
  if (!text.empty()) std::memcpy(payload.data, text.data(), text.size());
  return payload;
}

}  // namespace xcomposer
