#pragma once

#include <array>
#include <cstdint>

#include "transport/frame_codec.h"
#include "transport/secret.h"

namespace xcomposer {

struct CurveKeyPair {
  std::array<uint8_t, 32> public_key{};
  std::array<uint8_t, 32> secret_key{};
};

/// The CURVE keys of one run, which every rank that holds the secret derives for itself; none is
/// ever sent. A rank has a pair to listen with and one to connect with, so that a connection proves
/// both which rank it reaches and which rank it comes from. Derivation, with libsodium:
///
///     K     = BLAKE2b-512(secret)                                    crypto_generichash
///     M     = BLAKE2b-256(key K, nonce)                              crypto_generichash, keyed
///     seed  = BLAKE2b KDF(M, context "XCmpCurv", id)                 crypto_kdf_derive_from_key
///     pair  = Curve25519 pair of the seed                            crypto_box_seed_keypair
///
/// with id 2 * rank for listening and 2 * rank + 1 for connecting.
class CurveKeys {
 public:
  CurveKeys(const Secret& secret, const RunNonce& nonce);
  CurveKeys(const CurveKeys&) = delete;
  CurveKeys& operator=(const CurveKeys&) = delete;
  ~CurveKeys();

  CurveKeyPair ForListening(int rank) const;
  CurveKeyPair ForConnecting(int rank) const;

 private:
  CurveKeyPair Derive(uint64_t id) const;

  std::array<uint8_t, 32> master_{};
};

}  // namespace xcomposer
