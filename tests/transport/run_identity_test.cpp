#include "transport/run_identity.h"

#include <gtest/gtest.h>

#include <thread>

#include "transport/in_process.h"

namespace xcomposer {
namespace {

using std::chrono::milliseconds;

TimePoint In(milliseconds time) { return std::chrono::steady_clock::now() + time; }

const RunIdentity kSame = {{{"version", "0.1.0"}, {"plan", "aa"}, {"weights", "bb"}}};

std::vector<std::optional<Error>> Agree(const std::vector<RunIdentity>& identities) {
  const auto ranks = MakeInProcessTransports(static_cast<int>(identities.size()));
  std::vector<std::optional<Error>> errors(identities.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < identities.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        AgreeOnIdentity(*ranks[i], identities[i], In(milliseconds(20000)));
      } catch (const Error& error) {
        errors[i] = error;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

TEST(RunIdentity, EqualRanksAgree) {
  for (const auto& error : Agree({kSame, kSame, kSame, kSame})) EXPECT_FALSE(error.has_value());
  EXPECT_FALSE(Agree({kSame})[0].has_value());
  EXPECT_FALSE(Agree({RunIdentity{}, RunIdentity{}})[1].has_value());
}

TEST(RunIdentity, ADifferenceIsNamedTheSameOnEveryRank) {
  RunIdentity other = kSame;
  other.fields[2].second = "cc";
  const auto errors = Agree({kSame, kSame, other, kSame});
  for (const auto& error : errors) {
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->kind(), ErrorKind::kRank);
    EXPECT_EQ(error->where().at("rank"), "2");
    EXPECT_EQ(error->where().at("field"), "weights");
    EXPECT_STREQ(error->what(), errors[0]->what());
  }
  const std::string text = errors[0]->what();
  EXPECT_NE(text.find("'cc'"), std::string::npos) << text;
  EXPECT_NE(text.find("'bb'"), std::string::npos) << text;
}

TEST(RunIdentity, MissingAndRenamedFieldsAreDifferences) {
  RunIdentity shorter = kSame;
  shorter.fields.pop_back();
  EXPECT_EQ(Agree({kSame, shorter})[0]->where().at("field"), "weights");
  EXPECT_EQ(Agree({shorter, kSame})[1]->where().at("field"), "weights");
  RunIdentity renamed = kSame;
  renamed.fields[1].first = "map";
  EXPECT_EQ(Agree({kSame, renamed})[1]->where().at("field"), "plan");
}

TEST(RunIdentity, TheFirstRankThatDiffersIsNamed) {
  RunIdentity one = kSame;
  one.fields[0].second = "0.2.0";
  RunIdentity three = kSame;
  three.fields[1].second = "zz";
  for (const auto& error : Agree({kSame, one, kSame, three})) {
    EXPECT_EQ(error->where().at("rank"), "1");
    EXPECT_EQ(error->where().at("field"), "version");
  }
}

TEST(RunIdentity, ASilentRankIsADeadlineNamingIt) {
  const auto ranks = MakeInProcessTransports(2);
  try {
    AgreeOnIdentity(*ranks[0], kSame, In(milliseconds(20)));
    FAIL() << "agreed with a rank that said nothing";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDeadline);
    EXPECT_EQ(error.where().at("rank"), "1");
  }
  EXPECT_TRUE(ranks[1]->failure().has_value());
}

TEST(RunIdentity, BytesThatAreNoIdentityEndTheRun) {
  const std::string one_field("\1\0\0\0\1\0\0\0v\1\0\0\0", 13);  // the value's byte is missing
  const std::string many("\xff\xff\xff\xff", 4);
  const std::string tail("\0\0\0\0x", 5);
  for (const std::string& bytes : {one_field, many, tail, std::string()}) {
    const auto ranks = MakeInProcessTransports(2);
    FrameHeader header;
    header.channel = Channel::kSetup;
    header.kind = 1;
    header.payload_bytes = static_cast<int64_t>(bytes.size());
    ranks[1]->Send(0, header, Payload::Of(bytes));
    try {
      AgreeOnIdentity(*ranks[0], kSame, In(milliseconds(20000)));
      FAIL() << "agreed with " << bytes.size() << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kTransport);
      EXPECT_EQ(error.where().at("rank"), "1");
    }
  }
}

}  // namespace
}  // namespace xcomposer
