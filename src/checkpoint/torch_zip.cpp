#include "checkpoint/torch_zip.h"

#include <optional>
#include <string>
#include <utility>

#include "base/checked_math.h"
#include "checkpoint/pickle.h"
#include "checkpoint/zip_archive.h"

namespace xcomposer {
namespace {

std::string_view TextOf(std::span<const std::byte> bytes, const ZipMember& member) {
  return {reinterpret_cast<const char*>(bytes.data()) + member.offset,
          static_cast<size_t>(member.size)};
}

void RefuseOtherFormats(std::span<const std::byte> bytes, std::string_view file) {
  const Place place{.file = file};
  if (bytes.size() >= 2 && bytes[0] == std::byte{0x80}) {
    Refuse(place,
           "this is a PyTorch file of the old, unzipped form (before PyTorch 1.6). Load it once in "
           "Python and save it again: torch.save(torch.load(path, weights_only=True), path)");
  }
  if (bytes.size() < 2 || bytes[0] != std::byte{'P'} || bytes[1] != std::byte{'K'}) {
    Refuse(place, "this is no PyTorch zip file: it does not start with \"PK\"");
  }
}

void RequireWeightsOfThisByteOrder(std::span<const std::byte> bytes, const ZipDirectory& zip,
                                   std::string_view file) {
  const Place place{.file = file};
  if (zip.Find("constants.pkl") != nullptr) {
    Refuse(place, "this is a TorchScript archive (a program); expected a state dict of torch.save");
  }
  const ZipMember* order = zip.Find("byteorder");
  if (order != nullptr && (order->size > 16 || TextOf(bytes, *order) != "little")) {
    const std::string_view found = TextOf(bytes, *order);
    Refuse(place, "the byte order of the file is ", Quoted(found.substr(0, 16)),
           "; expected 'little'");
  }
}

// Elements from the first to behind the last one of the view, or nothing on overflow. 0 without
// elements.
std::optional<int64_t> ViewSpan(const PickledTensor& tensor, int64_t elements) {
  if (elements == 0) return 0;
  int64_t last = 0;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    const std::optional<int64_t> reach = CheckedMul(tensor.shape[i] - 1, tensor.strides[i]);
    const std::optional<int64_t> sum = reach ? CheckedAdd(last, *reach) : std::nullopt;
    if (!sum) return std::nullopt;
    last = *sum;
  }
  return CheckedAdd(last, 1);
}

// The stride of a dimension of one element is never used and may be anything; sums of it overflow.
void ForgetUnusedStrides(PickledTensor& tensor) {
  const std::vector<int64_t> dense = ContiguousStrides(tensor.shape);
  for (size_t i = 0; i < dense.size(); ++i) {
    if (tensor.shape[i] == 1) tensor.strides[i] = dense[i];
  }
}

TensorEntry Locate(PickledTensor tensor, const ZipDirectory& zip, std::string_view file) {
  const Place place{.file = file, .tensor = tensor.name};
  const int64_t item = SizeOf(tensor.dtype);
  const ZipMember* storage = zip.Find("data/" + tensor.storage);
  if (storage == nullptr) Refuse(place, "its storage data/", tensor.storage, " is missing");
  const std::optional<int64_t> storage_bytes = CheckedMul(tensor.storage_elements, item);
  if (!storage_bytes || *storage_bytes != storage->size) {
    Refuse(place, "its storage data/", tensor.storage, " is said to hold ", tensor.storage_elements,
           " elements of ", ToString(tensor.dtype), ", but has ", storage->size, " bytes");
  }
  const std::optional<int64_t> elements = ElementCount(tensor.shape);
  const std::optional<int64_t> span = elements ? ViewSpan(tensor, *elements) : std::nullopt;
  const std::optional<int64_t> end = span ? CheckedAdd(tensor.offset, *span) : std::nullopt;
  if (!end || *end > tensor.storage_elements) {
    Refuse(place, "the view of shape ", ShapeText(tensor.shape), ", strides ",
           ShapeText(tensor.strides), " and offset ", tensor.offset, " leaves its storage of ",
           tensor.storage_elements, " elements");
  }
  if (*elements > tensor.storage_elements) {
    Refuse(place, "the view of shape ", ShapeText(tensor.shape), " repeats the ",
           tensor.storage_elements, " elements of its storage; save it with .contiguous()");
  }
  ForgetUnusedStrides(tensor);
  return {.name = std::move(tensor.name),
          .dtype = tensor.dtype,
          .shape = std::move(tensor.shape),
          .strides = std::move(tensor.strides),
          .offset = storage->offset + tensor.offset * item,
          .byte_length = *span * item};
}

}  // namespace

std::vector<TensorEntry> ReadTorchZip(std::span<const std::byte> bytes, std::string_view file,
                                      const CheckpointLimits& limits) {
  RefuseOtherFormats(bytes, file);
  const ZipDirectory zip = ReadZipDirectory(bytes, file, limits);
  RequireWeightsOfThisByteOrder(bytes, zip, file);
  const ZipMember* pickle = zip.Find("data.pkl");
  if (pickle == nullptr) {
    Refuse({.file = file}, "the archive holds no ", Quoted(zip.prefix + "/data.pkl"),
           "; is this a file of torch.save?");
  }
  const auto text =
      bytes.subspan(static_cast<size_t>(pickle->offset), static_cast<size_t>(pickle->size));
  std::vector<PickledTensor> tensors = ReadPickledStateDict(text, file, limits);
  std::vector<TensorEntry> entries;
  entries.reserve(tensors.size());
  for (PickledTensor& tensor : tensors) entries.push_back(Locate(std::move(tensor), zip, file));
  return entries;
}

}  // namespace xcomposer
