#include "transport/curve_keys.h"

#include <sodium.h>

#include <algorithm>

#include "base/check.h"

namespace xcomposer {

static_assert(crypto_kdf_KEYBYTES == 32 && crypto_box_SEEDBYTES == 32);
static_assert(crypto_box_PUBLICKEYBYTES == 32 && crypto_box_SECRETKEYBYTES == 32);

CurveKeys::CurveKeys(const Secret& secret, const RunNonce& nonce) {
  Require(sodium_init() >= 0, ErrorKind::kTransport, "libsodium found no source of random numbers");
  std::array<uint8_t, crypto_generichash_BYTES_MAX> key{};
  const auto* text = reinterpret_cast<const unsigned char*>(secret.bytes().data());
  crypto_generichash(key.data(), key.size(), text, secret.bytes().size(), nullptr, 0);
  crypto_generichash(master_.data(), master_.size(),
                     reinterpret_cast<const unsigned char*>(nonce.data()), nonce.size(), key.data(),
                     key.size());
  sodium_memzero(key.data(), key.size());
}

CurveKeys::~CurveKeys() { sodium_memzero(master_.data(), master_.size()); }

CurveKeyPair CurveKeys::ForListening(int rank) const {
  return Derive(2 * static_cast<uint64_t>(rank));
}

CurveKeyPair CurveKeys::ForConnecting(int rank) const {
  return Derive(2 * static_cast<uint64_t>(rank) + 1);
}

CurveKeyPair CurveKeys::Derive(uint64_t id) const {
  std::array<uint8_t, 32> seed{};
  crypto_kdf_derive_from_key(seed.data(), seed.size(), id, "XCmpCurv", master_.data());
  CurveKeyPair pair;
  crypto_box_seed_keypair(pair.public_key.data(), pair.secret_key.data(), seed.data());
  sodium_memzero(seed.data(), seed.size());
  return pair;
}

}  // namespace xcomposer
