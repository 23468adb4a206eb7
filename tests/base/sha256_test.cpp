#include "base/sha256.h"

#include <gtest/gtest.h>

namespace xcomposer {
namespace {

std::string Hash(std::string_view text) {
  Sha256Hasher hasher;
  hasher.Add(text);
  return hasher.Finish();
}

TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(Hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hash(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesOfAnySizeGiveTheSame) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (size_t size = 0; size <= text.size(); ++size) {
    const std::string expected = Hash(text.substr(0, size));
    for (const size_t piece : {1u, 7u, 63u, 64u, 65u, 200u}) {
      Sha256Hasher hasher;
      for (size_t at = 0; at < size; at += piece) {
        hasher.Add(std::string_view(text).substr(at, std::min(piece, size - at)));
      }
      ASSERT_EQ(hasher.Finish(), expected) << size << " by " << piece;
    }
  }
}

TEST(Sha256, NumbersAreEightBytes) {
  Sha256Hasher hasher;
  hasher.AddNumber(0x0102030405060708);
  EXPECT_EQ(hasher.Finish(), Hash("\x08\x07\x06\x05\x04\x03\x02\x01"));
}

}  // namespace
}  // namespace xcomposer
