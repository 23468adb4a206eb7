#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "input/detokenizer.h"
#include "input/tokenizer.h"

/// The family's own tokenizer against vectors of the reference.
namespace xcomposer {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

const fs::path kShared = XCOMPOSER_SHARED_DIR;

class RealTokenizer : public testing::Test {
 protected:
  void SetUp() override {
    const fs::path folder = kShared / "data/goldens/2-vl-7b-fullvocab/model";
    if (!fs::exists(folder / "tokenizer.model")) GTEST_SKIP() << "no " << folder;
    vl_ = LoadTokenizer(folder, TokenizerStyleFor(Kind::kVl7b));
    newer_ = LoadTokenizer(folder, TokenizerStyleFor(Kind::k4khd7b));
  }

  static nlohmann::json Read(const fs::path& file) {
    return nlohmann::json::parse(std::ifstream(file));
  }

  std::unique_ptr<const CheckpointTokenizer> vl_;
  std::unique_ptr<const CheckpointTokenizer> newer_;
};

TEST_F(RealTokenizer, Encodings) {
  const nlohmann::json cases = Read(kShared / "data/tokenizer/goldens.json");
  ASSERT_GE(cases.size(), 152u);
  for (const auto& item : cases) {
    EXPECT_EQ(vl_->Encode(item.at("text").get<std::string>()), item.at("ids").get<Ids>()) << item;
  }
}

TEST_F(RealTokenizer, PythonEncodings) {
  const nlohmann::json cases = Read(kShared / "data/goldens/text.json").at("encode");
  ASSERT_GE(cases.size(), 201u);
  for (const auto& item : cases) {
    EXPECT_EQ(vl_->EncodeAsPython(item.at("text").get<std::string>()), item.at("ids").get<Ids>())
        << item;
  }
}

TEST_F(RealTokenizer, PythonDecodings) {
  const nlohmann::json cases = Read(kShared / "data/goldens/text.json").at("decode");
  ASSERT_GE(cases.size(), 207u);
  for (const auto& item : cases) {
    const Ids ids = item.at("ids").get<Ids>();
    EXPECT_EQ(vl_->DecodeAsPython(ids), item.at("text").get<std::string>()) << item;
    // The reference's transformers do not hold the ends of turns for special in 4khd and 2.5
    // either.
    EXPECT_EQ(newer_->DecodeAsPython(ids), item.at("text").get<std::string>()) << item;
  }
}

TEST_F(RealTokenizer, VectorsOfTheSpecification) {
  EXPECT_EQ(vl_->size(), 92544);
  EXPECT_EQ(vl_->turn_end_id(), 92542);
  EXPECT_EQ(vl_->Encode("<s>hi</s>"), (Ids{43618, 330, 6176, 654, 269, 330}));
  EXPECT_EQ(vl_->Encode("<|im_start|>user"), (Ids{333, 352, 449, 5064, 352, 330, 1008}));
  EXPECT_EQ(vl_->Encode("——……"), (Ids{92395, 92396}));
  EXPECT_EQ(vl_->Encode("  two  spaces"), (Ids{387, 19963, 387, 43842}));
  EXPECT_EQ(newer_->EncodeAsPython("hello <s> world"), (Ids{1, 15115, 262, 1, 2028}));
  EXPECT_EQ(newer_->EncodeAsPython("\n</s>\n\nx"), (Ids{1, 364, 2, 402, 274}));
  EXPECT_EQ(newer_->EncodeAsPython("  <s>"), (Ids{1, 387, 1}));
  EXPECT_EQ(newer_->EncodeAsPython("a<|im_start|>b"), (Ids{1, 264, 92543, 260}));
}

TEST_F(RealTokenizer, RandomTextComesBack) {
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (auto n = random() % 24; n > 0; --n) {
      const char32_t c = random() % 3 == 0 ? random() % 0x80 : random() % 0x110000;
      if (c >= 0xD800 && c < 0xE000) continue;
      if (c == 0x2581) continue;  // another spelling of the space
      if (c < 0x80) {
        text += static_cast<char>(c);
      } else if (c < 0x800) {
        text += static_cast<char>(0xC0 | c >> 6);
        text += static_cast<char>(0x80 | (c & 0x3F));
      } else if (c < 0x10000) {
        text += static_cast<char>(0xE0 | c >> 12);
        text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
        text += static_cast<char>(0x80 | (c & 0x3F));
      } else {
        text += static_cast<char>(0xF0 | c >> 18);
        text += static_cast<char>(0x80 | (c >> 12 & 0x3F));
        text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
        text += static_cast<char>(0x80 | (c & 0x3F));
      }
    }
    ASSERT_EQ(vl_->Decode(vl_->Encode(text)), text);
  }
}

TEST_F(RealTokenizer, TheStreamOfRandomIdsIsTheOneShotText) {
  std::mt19937 random(11);
  // Pieces that clean-up, byte runs and the cut hang on, between any others.
  const Ids frequent = {259, 262, 265,  269,  277, 281, 328, 345, 346, 364, 396, 439,  495,
                        717, 790, 1082, 1298, 2,   0,   243, 162, 156, 133, 232, 92542};
  for (int round = 0; round < 4000; ++round) {
    Ids ids;
    for (auto n = random() % 30; n > 0; --n) {
      const auto pick = random() % 4;
      if (pick == 0) ids.push_back(static_cast<int32_t>(random() % 92544));
      if (pick == 1) ids.push_back(static_cast<int32_t>(3 + random() % 256));
      if (pick >= 2) ids.push_back(frequent[random() % frequent.size()]);
    }
    IncrementalDetokenizer stream(*vl_);
    std::string joined;
    for (const int32_t id : ids) joined += stream.Push(id).text;
    joined += stream.Finish().text;
    ASSERT_EQ(joined, AnswerText(*vl_, ids));
  }
}

}  // namespace
}  // namespace xcomposer
