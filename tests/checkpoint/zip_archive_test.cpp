#include "checkpoint/zip_archive.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/expect_refused.h"
#include "checkpoint/scratch_directory.h"
#include "checkpoint/zip_maker.h"

namespace xcomposer {
namespace {

using testing_support::Bytes;
using testing_support::ExpectRefused;
using testing_support::LittleEndian;
using testing_support::MakeZip;
using testing_support::ZipEndSpec;
using testing_support::ZipMemberSpec;

constexpr const char* kFile = "some/pytorch_model.bin";

ZipDirectory Read(const std::string& zip, const CheckpointLimits& limits = {}) {
  return ReadZipDirectory(Bytes(zip), kFile, limits);
}

void Refused(const std::string& zip, std::initializer_list<const char*> words) {
  ExpectRefused([&] { Read(zip); }, kFile, "", words);
}

std::vector<ZipMemberSpec> Two() {
  return {{.name = "m/data.pkl", .data = "pickle"}, {.name = "m/data/0", .data = "storage"}};
}

// Two good members, the second changed by `change`.
template <typename Change>
std::string Changed(const Change& change) {
  std::vector<ZipMemberSpec> members = Two();
  change(members[1]);
  return MakeZip(members);
}

TEST(ZipArchive, FindsMembersBelowTheirPrefix) {
  for (const bool zip64 : {false, true}) {
    for (const int flags : {0, 0x800, 0x808}) {
      std::vector<ZipMemberSpec> members = Two();
      for (ZipMemberSpec& member : members) member.flags = static_cast<uint16_t>(flags);
      const std::string zip = MakeZip(members, {.zip64 = zip64});
      const ZipDirectory directory = Read(zip);
      EXPECT_EQ(directory.prefix, "m");
      const ZipMember* storage = directory.Find("data/0");
      ASSERT_NE(storage, nullptr);
      EXPECT_EQ(zip.substr(static_cast<size_t>(storage->offset), 7), "storage");
      EXPECT_EQ(storage->size, 7);
      EXPECT_EQ(directory.Find("data/1"), nullptr);
    }
  }
}

TEST(ZipArchive, ReadsSizesAndOffsetsFromZip64Records) {
  const std::string wide =
      LittleEndian(1, 2) + LittleEndian(24, 2) + LittleEndian(7, 8) + LittleEndian(7, 8);
  std::vector<ZipMemberSpec> members = Two();
  const std::string before = MakeZip({members[0]}, {.zip64 = false});
  const uint64_t offset = before.size() - 22 - 46 - members[0].name.size();
  members[1].flags = 0;
  members[1].central_size = 0xffffffff;
  members[1].central_offset = 0xffffffff;
  members[1].central_extra = wide + LittleEndian(offset, 8);
  members[1].local_size = 0xffffffff;
  members[1].local_extra = LittleEndian(0x4246, 2) + LittleEndian(3, 2) + "pad" +
                           LittleEndian(1, 2) + LittleEndian(16, 2) + LittleEndian(7, 8) +
                           LittleEndian(7, 8);
  const std::string zip = MakeZip(members);
  const ZipDirectory directory = Read(zip);
  EXPECT_EQ(zip.substr(static_cast<size_t>(directory.Find("data/0")->offset), 7), "storage");

  members[1].central_extra = wide + LittleEndian(~uint64_t{0}, 8);
  Refused(MakeZip(members), {"data/0", "outside"});
  members[1].central_extra = LittleEndian(1, 2) + LittleEndian(16, 2) + std::string(16, '\7');
  Refused(MakeZip(members), {"ZIP64 record of 16 bytes"});
  members[1].central_extra = wide + LittleEndian(offset, 8) + wide + LittleEndian(offset, 8);
  Refused(MakeZip(members), {"two ZIP64"});
  members[1].central_extra = "";
  Refused(MakeZip(members), {"ZIP64 record is missing"});
  members[1].central_extra = LittleEndian(1, 2) + LittleEndian(24, 2) +
                             LittleEndian(~uint64_t{0}, 8) + LittleEndian(~uint64_t{0}, 8) +
                             LittleEndian(offset, 8);
  Refused(MakeZip(members), {"data/0", "outside"});
  members[1].central_extra = LittleEndian(1, 2) + LittleEndian(900, 2);
  Refused(MakeZip(members), {"ZIP64 record of 900 bytes"});
  members[1].central_extra = LittleEndian(2, 2) + LittleEndian(900, 2);
  Refused(MakeZip(members), {"truncated"});
}

TEST(ZipArchive, RefusesEveryTruncationAndEveryAppendix) {
  const std::string good = MakeZip(Two());
  for (size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    Refused(good.substr(0, size), {});
  }
  Refused(good + "x", {"no end record"});
  Refused("x" + good, {});
}

TEST(ZipArchive, SurvivesEveryFlippedByte) {
  const std::string good = MakeZip(Two());
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x20, 0x80, 0xff}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      try {
        Read(bad);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint) << error.what();
      }
    }
  }
}

TEST(ZipArchive, RefusesCompressionAndEncryption) {
  Refused(Changed([](ZipMemberSpec& m) { m.method = 8; }), {"m/data/0", "compressed"});
  Refused(Changed([](ZipMemberSpec& m) { m.method = 99; }), {"m/data/0", "compressed"});
  Refused(Changed([](ZipMemberSpec& m) { m.flags = 1; }), {"m/data/0", "encrypted"});
  Refused(Changed([](ZipMemberSpec& m) { m.flags = 0x2000; }), {"m/data/0", "other flags"});
  // A bomb: few stored bytes that promise many.
  Refused(Changed([](ZipMemberSpec& m) {
            m.central_size = 0xfffffffe;
            m.central_stored = 7;
          }),
          {"m/data/0", "compressed"});
}

TEST(ZipArchive, RefusesLocalHeadersThatContradictTheDirectory) {
  Refused(Changed([](ZipMemberSpec& m) { m.local_name = "m/data/9"; }), {"contradicts"});
  Refused(Changed([](ZipMemberSpec& m) { m.local_name = "m/data/00"; }), {"contradicts"});
  Refused(Changed([](ZipMemberSpec& m) { m.local_flags = 0; }), {"contradicts"});
  Refused(Changed([](ZipMemberSpec& m) { m.local_size = 3; }), {"contradict"});
  Refused(Changed([](ZipMemberSpec& m) {
            m.flags = 0;
            m.local_size = 6;
          }),
          {"contradict"});
  Refused(Changed([](ZipMemberSpec& m) { m.local_extra = "\1"; }), {"truncated"});
}

TEST(ZipArchive, RefusesDescriptorsThatContradictTheDirectory) {
  Refused(Changed([](ZipMemberSpec& m) { m.descriptor_size = 6; }), {"m/data/0", "descriptor"});
  Refused(Changed([](ZipMemberSpec& m) { m.central_size = 6; }), {"m/data/0", "descriptor"});
  Refused(Changed([](ZipMemberSpec& m) { m.central_size = 4000; }), {});
}

TEST(ZipArchive, RefusesMembersThatOverlap) {
  // The second entry points to the first member; names agree, so only the overlap tells.
  std::vector<ZipMemberSpec> same = Two();
  same[1] = same[0];
  same[1].central_offset = 0;
  Refused(MakeZip(same), {"overlap"});
  // A member whose data hold the next member's header and data.
  std::vector<ZipMemberSpec> nested = Two();
  for (ZipMemberSpec& member : nested) member.flags = 0;
  nested[0].central_size = 30;
  nested[0].local_size = 30;
  Refused(MakeZip(nested), {"overlap"});
  nested[1].central_size = 5000;
  nested[1].local_size = 5000;
  Refused(MakeZip(nested), {"m/data/0", "outside"});
  // Data that reach into the directory.
  Refused(Changed([](ZipMemberSpec& m) {
            m.flags = 0;
            m.central_size = 30;
            m.local_size = 30;
          }),
          {"m/data/0", "runs into the directory"});
  Refused(Changed([](ZipMemberSpec& m) { m.central_offset = 0x7fffffff; }),
          {"m/data/0", "outside"});
  Refused(Changed([](ZipMemberSpec& m) { m.central_offset = 3; }), {"m/data/0", "no local header"});
}

TEST(ZipArchive, RefusesNamesOfOtherForms) {
  for (const char* name : {"data.pkl", "/m/data/0", "m/", "m/../x", "../m/x", "m/./x", "m//x",
                           "m\\data\\0", "./m/x"}) {
    SCOPED_TRACE(name);
    Refused(Changed([&](ZipMemberSpec& m) { m.name = name; }), {});
  }
  Refused(Changed([](ZipMemberSpec& m) { m.name = ""; }), {"prefix/name"});
  Refused(Changed([](ZipMemberSpec& m) { m.name = std::string("m/a\0b", 5); }), {"prefix/name"});
  Refused(Changed([](ZipMemberSpec& m) { m.name = "m/\xff"; }), {"prefix/name"});
  Refused(Changed([](ZipMemberSpec& m) { m.name = "m/" + std::string(3000, 'a'); }),
          {"prefix/name"});
  Refused(Changed([](ZipMemberSpec& m) { m.name = "n/data/0"; }), {"n/data/0", "one prefix"});
  Refused(Changed([](ZipMemberSpec& m) { m.name = "m/data.pkl"; }), {"data.pkl", "twice"});
  Refused(Changed([](ZipMemberSpec& m) { m.central_comment = "hello"; }), {"comment"});
}

TEST(ZipArchive, RefusesEndRecordsThatLie) {
  Refused(MakeZip({}), {"empty"});
  Refused(MakeZip(Two(), {.comment = "PK"}), {"no end record"});
  Refused(MakeZip(Two(), {.entries = 1}), {"more than its 1 members"});
  Refused(MakeZip(Two(), {.entries = 3}), {});
  Refused(MakeZip(Two(), {.entries = ~uint64_t{0}}), {"at most 500000"});
  Refused(MakeZip(Two(), {.entries = 400'000}), {"do not fit"});
  Refused(MakeZip(Two(), {.directory_offset = 0}), {"must end at"});
  Refused(MakeZip(Two(), {.directory_offset = ~uint64_t{0} - 5}), {"must end at"});
  Refused(MakeZip(Two(), {.directory_size = ~uint64_t{0}}), {"must end at"});
  Refused(MakeZip(Two(), {.short_offset = 5}), {"contradicts"});
  Refused(MakeZip(Two(), {.locator = 0}), {"locator"});
  Refused(MakeZip(Two(), {.locator = ~uint64_t{0}}), {"locator"});
  Refused(MakeZip(Two(), {.zip64 = false, .directory_offset = 0xffffffff}), {"ZIP64 end record"});
  Refused(MakeZip(Two(), {.zip64 = false, .entries = 0xffff}), {"ZIP64 end record"});
  EXPECT_NO_THROW(Read(MakeZip(Two(), {.short_offset = 0xffffffff})));
}

TEST(ZipArchive, RefusesMoreMembersThanTheLimit) {
  CheckpointLimits limits;
  limits.max_zip_entries = 1;
  ExpectRefused([&] { Read(MakeZip(Two()), limits); }, kFile, "", {"at most 1 "});
}

}  // namespace
}  // namespace xcomposer
