#include "transport/secret.h"

#include <cstring>
#include <fstream>

#include "base/check.h"

namespace xcomposer {
namespace {

constexpr size_t kShortest = 16;
constexpr size_t kLongest = 4096;

void Clear(void* data, size_t size) {
  // Through a volatile pointer, or the compiler would leave out a store that nobody reads.
  auto* bytes = static_cast<volatile unsigned char*>(data);
  for (size_t i = 0; i < size; ++i) bytes[i] = 0;
}

}  // namespace

Secret::Secret(const std::string& text) {
  size_t size = text.size();
  while (size > 0 && std::strchr(" \t\r\n", text[size - 1]) != nullptr && text[size - 1] != '\0') {
    --size;
  }
  Require(size >= kShortest && size <= kLongest, ErrorKind::kUsage, "the secret of the run has ",
          size, " bytes; expected ", kShortest, " to ", kLongest,
          ". Make one with: head -c 32 /dev/urandom | base64");
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  bytes_.assign(data, data + size);
}

Secret::~Secret() { Clear(bytes_.data(), bytes_.size()); }

std::optional<Secret> ReadSecret(const std::optional<std::string>& file,
                                 const std::map<std::string, std::string>& environment) {
  if (file) {
    std::ifstream in(*file, std::ios::binary);
    std::string text(kLongest + 2, '\0');  // a longer file is seen to be too long
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    const bool read = in.gcount() > 0 || in.eof();
    text.resize(static_cast<size_t>(in.gcount()));
    if (!read) {
      throw Error(ErrorKind::kUsage, StrCat("the secret file '", *file, "' cannot be read"),
                  {{"file", *file}});
    }
    try {
      const Secret secret(text);
      Clear(text.data(), text.size());
      return secret;
    } catch (const Error& error) {
      throw error.With("file", *file);
    }
  }
  const auto found = environment.find("XCOMPOSER_SECRET");
  if (found == environment.end()) return std::nullopt;
  try {
    return Secret(found->second);
  } catch (const Error& error) {
    throw error.With("variable", "XCOMPOSER_SECRET");
  }
}

}  // namespace xcomposer
