#include "transport/frame_codec.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/check.h"
#include "transport/link_messages.h"

namespace xcomposer {
namespace {

FrameLimits Limits() {
  FrameLimits limits;
  for (size_t i = 0; i < limits.nonce.size(); ++i) limits.nonce[i] = static_cast<std::byte>(i + 1);
  limits.world_size = 4;
  limits.max_stages = 8;
  limits.max_rows = 1000;
  limits.max_payload_bytes = int64_t{1} << 33;
  return limits;
}

WireHeader Good() {
  WireHeader header;
  header.frame = {Channel::kHidden, 7, 5, 1234567890123, 999, int64_t{1} << 32};
  header.from = 3;
  header.sequence = 77;
  return header;
}

using Bytes = std::array<std::byte, kWireHeaderBytes>;

Bytes GoodBytes() { return EncodeHeader(Good(), Limits().nonce); }

// The field that the error names; "" where nothing was wrong, "stranger" where it is not of this
// run.
std::string FieldRefused(std::span<const std::byte> bytes, const FrameLimits& limits = Limits()) {
  try {
    return DecodeHeader(bytes, limits) ? "" : "stranger";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    EXPECT_EQ(error.where().count("rank"), 1U);
    return error.where().at("field");
  }
}

std::string FieldRefused(const WireHeader& header) {
  return FieldRefused(EncodeHeader(header, Limits().nonce));
}

TEST(FrameCodec, WhatIsEncodedIsDecoded) {
  const Bytes bytes = GoodBytes();
  const std::optional<WireHeader> decoded = DecodeHeader(bytes, Limits());
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->from, 3);
  EXPECT_EQ(decoded->sequence, 77U);
  EXPECT_EQ(decoded->frame.channel, Channel::kHidden);
  EXPECT_EQ(decoded->frame.kind, 7);
  EXPECT_EQ(decoded->frame.stage, 5U);
  EXPECT_EQ(decoded->frame.step, 1234567890123U);
  EXPECT_EQ(decoded->frame.rows, 999);
  EXPECT_EQ(decoded->frame.payload_bytes, int64_t{1} << 32);
}

TEST(FrameCodec, TheLayoutIsWhatTheHeaderSays) {
  const Bytes bytes = GoodBytes();
  const auto at = [&](size_t i) { return std::to_integer<int>(bytes[i]); };
  EXPECT_EQ(at(0), 'X');
  EXPECT_EQ(at(3), 'P');
  EXPECT_EQ(at(4), kWireVersion);
  EXPECT_EQ(at(6), 2);   // kHidden
  EXPECT_EQ(at(8), 1);   // the nonce begins
  EXPECT_EQ(at(24), 3);  // from
  EXPECT_EQ(at(28), 5);  // stage
  EXPECT_EQ(at(32), 7);  // kind
  EXPECT_EQ(at(60), 1);  // payload_bytes = 2^32
  EXPECT_EQ(at(64), 77);
}

TEST(FrameCodec, StrangersAreNoReasonToEnd) {
  Bytes bytes = GoodBytes();
  bytes[0] ^= std::byte{1};
  EXPECT_EQ(FieldRefused(bytes), "stranger");
  for (size_t i = 8; i < 24; ++i) {  // any bit of the nonce
    bytes = GoodBytes();
    bytes[i] ^= std::byte{0x80};
    EXPECT_EQ(FieldRefused(bytes), "stranger") << i;
  }
  EXPECT_EQ(FieldRefused(std::span<const std::byte>()), "stranger");
  const Bytes good = GoodBytes();
  for (size_t size = 0; size < 28; ++size) {
    EXPECT_EQ(FieldRefused(std::span(good).first(size)), "stranger") << size;
  }
}

TEST(FrameCodec, EveryOtherLengthIsRefused) {
  const Bytes good = GoodBytes();
  for (size_t size = 28; size < kWireHeaderBytes; ++size) {
    EXPECT_EQ(FieldRefused(std::span(good).first(size)), "header size") << size;
  }
  std::vector<std::byte> longer(good.begin(), good.end());
  longer.push_back(std::byte{0});
  EXPECT_EQ(FieldRefused(longer), "header size");
}

TEST(FrameCodec, EveryLimitIsKept) {
  WireHeader header = Good();
  EXPECT_EQ(FieldRefused(header), "");
  header.from = 4;
  EXPECT_EQ(FieldRefused(header), "sender");
  header.from = -1;
  EXPECT_EQ(FieldRefused(header), "sender");
  header = Good();
  header.frame.stage = 8;
  EXPECT_EQ(FieldRefused(header), "stage");
  header = Good();
  for (const int64_t rows : {int64_t{-1}, int64_t{1001}, std::numeric_limits<int64_t>::min(),
                             std::numeric_limits<int64_t>::max()}) {
    header.frame.rows = rows;
    EXPECT_EQ(FieldRefused(header), "row count") << rows;
  }
  header = Good();
  for (const int64_t size :
       {int64_t{-1}, (int64_t{1} << 33) + 1, std::numeric_limits<int64_t>::min(),
        std::numeric_limits<int64_t>::max()}) {
    header.frame.payload_bytes = size;
    EXPECT_EQ(FieldRefused(header), "payload size") << size;
  }
  header = Good();
  header.frame.channel = static_cast<Channel>(6);
  EXPECT_EQ(FieldRefused(header), "channel");
  header.frame.channel = static_cast<Channel>(65535);
  EXPECT_EQ(FieldRefused(header), "channel");
}

TEST(FrameCodec, TheTransportsOwnChannelTakesLittle) {
  WireHeader header = Good();
  header.frame.channel = kLinkChannel;
  header.frame.payload_bytes = 65536;
  EXPECT_EQ(FieldRefused(header), "");
  header.frame.payload_bytes = 65537;
  EXPECT_EQ(FieldRefused(header), "payload size");
}

TEST(FrameCodec, AnotherVersionIsNamedBeforeAnythingElse) {
  Bytes bytes = GoodBytes();
  bytes[4] = std::byte{2};
  EXPECT_EQ(FieldRefused(bytes), "protocol version");
  // A later version may have a longer header.
  std::vector<std::byte> longer(bytes.begin(), bytes.end());
  longer.resize(128);
  EXPECT_EQ(FieldRefused(longer), "protocol version");
}

TEST(FrameCodec, PaddingIsZero) {
  for (size_t i = 34; i < 40; ++i) {
    Bytes bytes = GoodBytes();
    bytes[i] = std::byte{1};
    EXPECT_EQ(FieldRefused(bytes), "padding") << i;
  }
}

TEST(FrameCodec, NoBytesGetPastTheLimits) {
  std::mt19937_64 random(1);
  const FrameLimits limits = Limits();
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    Bytes bytes = GoodBytes();
    const int flips = 1 + static_cast<int>(random() % 3);
    for (int flip = 0; flip < flips; ++flip) {
      bytes[random() % bytes.size()] ^= static_cast<std::byte>(1U << (random() % 8));
    }
    try {
      const std::optional<WireHeader> header = DecodeHeader(bytes, limits);
      if (!header) continue;
      ++accepted;
      EXPECT_LT(header->from, limits.world_size);
      EXPECT_LT(header->frame.stage, limits.max_stages);
      EXPECT_LE(header->frame.rows, limits.max_rows);
      EXPECT_LE(header->frame.payload_bytes, limits.max_payload_bytes);
      EXPECT_EQ(EncodeHeader(*header, limits.nonce), bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kTransport);
    }
  }
  EXPECT_GT(accepted, 0);  // or this test would say nothing
}

// --- The transport's own messages
// ------------------------------------------------------------------

TEST(LinkMessages, RoundTrips) {
  const Hello hello{3, uint64_t{1} << 40, 12};
  EXPECT_EQ(DecodeHello(EncodeHello(hello).bytes()), hello);
  const Credit credit{Channel::kTaps, 5, uint64_t{1} << 50};
  EXPECT_EQ(DecodeCredit(EncodeCredit(credit).bytes()), credit);
  const Error reason(ErrorKind::kCapacity, "short of memory", {{"rank", "1"}, {"step", "9"}});
  const Error decoded = DecodeReason(EncodeReason(reason).bytes());
  EXPECT_EQ(decoded.kind(), ErrorKind::kCapacity);
  EXPECT_STREQ(decoded.what(), "short of memory");
  EXPECT_EQ(decoded.where(), reason.where());
}

TEST(LinkMessages, LongReasonsAreCutAndStillUnderstood) {
  Error::Where where;
  for (int i = 0; i < 40; ++i)
    where[StrCat("key", i, std::string(100, 'k'))] = std::string(900, 'v');
  const Error long_reason(ErrorKind::kDevice, std::string(100000, 'm'), where);
  const Error decoded = DecodeReason(EncodeReason(long_reason).bytes());
  EXPECT_EQ(decoded.what(), std::string(8192, 'm'));
  EXPECT_EQ(decoded.where().size(), 16U);
  EXPECT_EQ(decoded.where().begin()->second, std::string(512, 'v'));
  EXPECT_LT(EncodeReason(long_reason).size, Limits().max_link_payload_bytes);
}

TEST(LinkMessages, EveryTruncationAndEveryTailIsRefused) {
  const std::vector<Payload> messages = {
      EncodeHello({3, 4, 5}), EncodeCredit({Channel::kHidden, 1, 2}),
      EncodeReason(Error(ErrorKind::kRank, "gone", {{"rank", "1"}}))};
  const auto decode = [](size_t which, std::span<const std::byte> bytes) {
    if (which == 0) DecodeHello(bytes);
    if (which == 1) DecodeCredit(bytes);
    if (which == 2) DecodeReason(bytes);
  };
  for (size_t which = 0; which < messages.size(); ++which) {
    const std::span<const std::byte> whole = messages[which].bytes();
    EXPECT_NO_THROW(decode(which, whole));
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_THROW(decode(which, whole.first(size)), Error) << which << " " << size;
    }
    std::vector<std::byte> longer(whole.begin(), whole.end());
    longer.push_back(std::byte{0});
    EXPECT_THROW(decode(which, longer), Error) << which;
  }
}

TEST(LinkMessages, LyingReasonsAreRefused) {
  const auto patched = [](size_t at, uint8_t value) {
    Payload payload = EncodeReason(Error(ErrorKind::kRank, "gone", {{"rank", "1"}}));
    payload.data[at] = static_cast<std::byte>(value);
    return payload;
  };
  EXPECT_THROW(DecodeReason(patched(0, 200).bytes()), Error);   // no such kind
  EXPECT_THROW(DecodeReason(patched(5, 0xFF).bytes()), Error);  // a message of 4 GB
  EXPECT_THROW(DecodeReason(patched(10, 17).bytes()), Error);   // more places than there may be
  EXPECT_THROW(DecodeReason(patched(13, 0xFF).bytes()), Error);
  EXPECT_THROW(DecodeCredit(EncodeCredit({Channel{0}, 1, 1}).bytes()), Error);
  EXPECT_THROW(DecodeCredit(EncodeCredit({Channel{6}, 1, 1}).bytes()), Error);
}

}  // namespace
}  // namespace xcomposer
