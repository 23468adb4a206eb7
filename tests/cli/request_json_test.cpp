// What a request file may say, and how it becomes a request.
#include "request_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace xcomposer::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParsedRequest Parse(const std::string& text, const ImageRoots& roots = {}) {
  RequestFile file = ParseRequests(text, roots, "request");
  EXPECT_FALSE(file.is_list);
  if (const Error* error = std::get_if<Error>(&file.items.at(0))) throw *error;
  return std::get<ParsedRequest>(file.items.at(0));
}

// A folder of files that look like pictures from outside, gone at the end of the test.
class RequestImages : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              ("xcomposer_request_" + std::to_string(::getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    for (const char* name : {"first/a.png", "second/a.png", "second/b.png", "second/clip/1.png"}) {
      fs::create_directories((folder_ / name).parent_path());
      std::ofstream(folder_ / name) << "picture";
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
};

TEST(RequestJson, TakesEveryKeyOfARequest) {
  const ParsedRequest parsed = Parse(R"({
      "query": "What is it?", "history": [["a", "b"], ["c", "d"]], "id": "seven",
      "meta_instruction": "Be brief.", "stop": ["\n", "END"], "deadline_s": 2.5, "specials": "literal",
      "chat": {"hd_num": 9, "use_meta": true, "max_length": 8192, "infer_mode": "web"},
      "generate": {"max_new_tokens": 5, "do_sample": true, "temperature": 0.5, "top_p": 0.9, "top_k": 7,
                   "num_beams": 1, "repetition_penalty": 1.1, "length_penalty": 2, "early_stopping": "never",
                   "eos_token_id": [2, 9], "use_cache": false, "seed": 18446744073709551615}})");
  const Request& request = parsed.request;
  EXPECT_FALSE(parsed.forward);
  EXPECT_EQ(request.query, "What is it?");
  ASSERT_EQ(request.history.size(), 2u);
  EXPECT_EQ(request.history[1].query, "c");
  EXPECT_EQ(request.history[1].answer, "d");
  EXPECT_EQ(request.id, "seven");
  EXPECT_EQ(request.meta_instruction, "Be brief.");
  EXPECT_THAT(request.generation.stop, ElementsAre("\n", "END"));
  EXPECT_EQ(request.deadline_s, 2.5);
  EXPECT_EQ(request.specials, Specials::kLiteral);
  EXPECT_EQ(request.hd_num, 9);
  EXPECT_EQ(request.use_meta, true);
  EXPECT_EQ(request.max_length, 8192);
  EXPECT_EQ(request.infer_mode, InferMode::kWeb);
  EXPECT_EQ(request.generation.max_new_tokens, 5);
  EXPECT_EQ(request.generation.do_sample, true);
  EXPECT_EQ(request.generation.temperature, 0.5);
  EXPECT_EQ(request.generation.top_p, 0.9);
  EXPECT_EQ(request.generation.top_k, 7);
  EXPECT_EQ(request.generation.repetition_penalty, 1.1);
  EXPECT_EQ(request.generation.length_penalty, 2.0);
  EXPECT_EQ(request.generation.early_stopping, EarlyStopping::kNever);
  EXPECT_THAT(*request.generation.eos_token_id, ElementsAre(2, 9));
  EXPECT_EQ(request.generation.use_cache, false);
  EXPECT_EQ(request.generation.seed, 18446744073709551615u);
}

TEST(RequestJson, FollowsTheReferenceWithSpecialStringsUnlessTold) {
  EXPECT_EQ(Parse(R"({"query": ""})").request.specials, Specials::kReference);
}

TEST(RequestJson, ToldApartNullEmptyAndAbsentImages) {
  const Request null = Parse(R"({"query": "q", "images": null})").request;
  EXPECT_TRUE(null.text_path);
  EXPECT_FALSE(null.images.has_value());
  const Request empty = Parse(R"({"query": "q", "images": []})").request;
  EXPECT_FALSE(empty.text_path);
  ASSERT_TRUE(empty.images.has_value());
  EXPECT_TRUE(empty.images->empty());
  const Request absent = Parse(R"({"query": "q"})").request;
  EXPECT_FALSE(absent.text_path);
  EXPECT_FALSE(absent.images.has_value());
}

TEST(RequestJson, GenerateWinsOverChatInAnyOrder) {
  for (
      const char* text :
      {R"({"query": "q", "chat": {"max_new_tokens": 3, "top_k": 4}, "generate": {"max_new_tokens": 8}})",
       R"({"generate": {"max_new_tokens": 8}, "query": "q", "chat": {"max_new_tokens": 3, "top_k": 4}})"}) {
    const Request request = Parse(text).request;
    EXPECT_EQ(request.generation.max_new_tokens, 8);
    EXPECT_EQ(request.generation.top_k, 4);
  }
}

TEST(RequestJson, SystemTextInTwoPlacesMustAgree) {
  EXPECT_EQ(*Parse(R"({"query": "q", "meta_instruction": "a", "chat": {"meta_instruction": "a"}})")
                 .request.meta_instruction,
            "a");
  EXPECT_EQ(*Parse(R"({"query": "q", "chat": {"meta_instruction": ""}})").request.meta_instruction,
            "");
  EXPECT_THROW(
      Parse(R"({"query": "q", "meta_instruction": "", "chat": {"meta_instruction": "a"}})"), Error);
}

TEST(RequestJson, ReadsRecordedCasesAsRequests) {
  const ParsedRequest parsed = Parse(R"({
      "name": "x", "query": "q", "taps": "t", "text_pieces": [], "prompt_text": "", "input_ids": [1],
      "output_ids": [2], "output_text": "", "output_anything": 0, "penalty_ids": [], "min_margin": null,
      "min_margin_before_processors": 1, "logits_processors": [], "rope": [], "rope_state": "fresh",
      "sequences_score": 0, "float64_same_ids": true, "beam_stable_under_noise": 0, "image_info": [],
      "image_taps_from": "y", "image0.size": [1, 1], "image12.rgb_sha256": "", "call": "forward",
      "generate": {"bos_token_id": 1, "pad_token_id": 2, "max_length": 9, "infer_mode": "write",
                   "logits_processors": [], "min_length": 0, "no_repeat_ngram_size": 0, "typical_p": 1.0}})");
  EXPECT_TRUE(parsed.forward);
  EXPECT_EQ(parsed.request.infer_mode, InferMode::kBase);
}

TEST(RequestJson, AListKeepsItsErrorsApart) {
  const RequestFile file =
      ParseRequests(R"([{"query": "a"}, {"quarry": "b"}, {"query": "c"}])", {}, "file");
  ASSERT_TRUE(file.is_list);
  ASSERT_EQ(file.items.size(), 3u);
  EXPECT_EQ(std::get<ParsedRequest>(file.items[2]).request.query, "c");
  const Error& error = std::get<Error>(file.items[1]);
  EXPECT_EQ(error.kind(), ErrorKind::kRequest);
  EXPECT_THAT(error.what(), HasSubstr("quarry"));
  EXPECT_EQ(error.where().at("request"), "1");
}

TEST(RequestJson, TakesTokenIdsInsteadOfText) {
  EXPECT_THAT(*Parse(R"({"token_ids": [1, -1, 5]})").request.token_ids,
              ElementsAre(1, kPictureId, 5));
  EXPECT_THROW(Parse(R"({"token_ids": [-2]})"), Error);
}

TEST_F(RequestImages, AreLookedUpInTheRootsInOrder) {
  const ImageRoots roots = {folder_ / "first", folder_ / "second"};
  const Request request = Parse(R"({"query": "q", "images": ["a.png", "b.png"]})", roots).request;
  EXPECT_EQ(std::get<ImageFile>(request.images->at(0)).path, (folder_ / "first/a.png").string());
  EXPECT_EQ(std::get<ImageFile>(request.images->at(1)).path, (folder_ / "second/b.png").string());
}

TEST_F(RequestImages, TheFolderOfTheFileComesLast) {
  std::ofstream(folder_ / "second/request.json")
      << R"({"query": "q", "images": ["a.png", "b.png"]})";
  const RequestFile file =
      ReadRequestFile((folder_ / "second/request.json").string(), {folder_ / "first"});
  const Request& request = std::get<ParsedRequest>(file.items.at(0)).request;
  EXPECT_EQ(std::get<ImageFile>(request.images->at(0)).path, (folder_ / "first/a.png").string());
  EXPECT_EQ(std::get<ImageFile>(request.images->at(1)).path, (folder_ / "second/b.png").string());
}

TEST_F(RequestImages, VideosAreFramesAFolderOrACanvas) {
  const Request request =
      Parse(
          R"({"query": "q", "images": [{"frames": ["a.png", "b.png"], "fps": 2}, "clip", {"canvas": "b.png"}]})",
          {folder_ / "second"})
          .request;
  const auto& frames = std::get<VideoFrames>(request.images->at(0));
  EXPECT_THAT(frames.frames, ElementsAre((folder_ / "second/a.png").string(),
                                         (folder_ / "second/b.png").string()));
  EXPECT_EQ(frames.fps, 2.0);
  EXPECT_EQ(std::get<VideoFolder>(request.images->at(1)).path, (folder_ / "second/clip").string());
  EXPECT_EQ(std::get<VideoCanvas>(request.images->at(2)).path, (folder_ / "second/b.png").string());
}

TEST_F(RequestImages, ARawPictureHasItsSize) {
  std::ofstream(folder_ / "raw") << "abcdef";
  const Request request =
      Parse(R"({"query": "q", "images": [{"rgb": "raw", "width": 2, "height": 1}]})", {folder_})
          .request;
  EXPECT_THAT(std::get<ImagePixels>(request.images->at(0)).rgb,
              ElementsAre('a', 'b', 'c', 'd', 'e', 'f'));
  EXPECT_THROW(
      Parse(R"({"query": "q", "images": [{"rgb": "raw", "width": 2, "height": 2}]})", {folder_}),
      Error);
}

TEST_F(RequestImages, AMissingPictureNamesThePlaces) {
  try {
    Parse(R"({"query": "q", "images": ["gone.png"]})", {folder_ / "first", folder_ / "second"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kImage);
    EXPECT_THAT(error.what(), HasSubstr("gone.png"));
    EXPECT_THAT(error.what(), HasSubstr((folder_ / "first").string()));
    EXPECT_THAT(error.what(), HasSubstr((folder_ / "second").string()));
  }
}

TEST_F(RequestImages, ADeviceIsNoPicture) {
  EXPECT_THROW(Parse(R"({"query": "q", "images": ["/dev/zero"]})"), Error);
}

}  // namespace
}  // namespace xcomposer::cli
