#include "request_json.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <utility>

#include "field_reader.h"
#include "generation_json.h"
#include "strict_json.h"

namespace xcomposer::cli {
namespace {

using nlohmann::json;

constexpr int64_t kMostBytes = int64_t{64} << 20;
constexpr int64_t kMostTiles = 4096;
constexpr int64_t kLongestPrompt = int64_t{1} << 30;
constexpr double kLongestDeadline = 1e9;

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

// image0.size, image12.rgb_sha256, ...
bool IsImageRecord(std::string_view key) {
  if (!StartsWith(key, "image")) return false;
  size_t at = 5;
  while (at < key.size() && std::isdigit(static_cast<unsigned char>(key[at]))) ++at;
  return at > 5 && at < key.size() && key[at] == '.';
}

// Recorded cases of the reference are requests too; these keys hold what it answered.
bool IsRecord(std::string_view key) {
  constexpr std::array<std::string_view, 15> kRecords = {"name",
                                                         "taps",
                                                         "text_pieces",
                                                         "prompt_text",
                                                         "input_ids",
                                                         "penalty_ids",
                                                         "rope",
                                                         "logits_processors",
                                                         "rope_state",
                                                         "sequences_score",
                                                         "image_info",
                                                         "call",
                                                         "beam_stable_under_noise",
                                                         "float64_same_ids",
                                                         "image_taps_from"};
  return std::find(kRecords.begin(), kRecords.end(), key) != kRecords.end() ||
         StartsWith(key, "output_") || StartsWith(key, "min_margin") || IsImageRecord(key);
}

[[noreturn]] void RefuseKey(const std::string& key, const std::string& known) {
  throw Error(ErrorKind::kRequest, "unknown key '" + key + "'; known are " + known, {{"key", key}});
}

std::vector<Turn> ReadHistory(const FieldReader& field) {
  std::vector<Turn> turns;
  for (size_t i = 0; i < field.List().size(); ++i) {
    const FieldReader turn = field.At(i);
    if (turn.List().size() != 2) turn.Refuse("a pair [question, answer]");
    turns.push_back({turn.At(0).Text(), turn.At(1).Text()});
  }
  return turns;
}

std::string FoundFile(const FieldReader& field, const ImageRoots& roots) {
  return FindImage(field.Text(), roots).string();
}

ImagePixels ReadPixels(const json& object, const FieldReader& field, const ImageRoots& roots) {
  constexpr int64_t kLongestSide = 1 << 20;
  ImagePixels pixels;
  pixels.width =
      FieldReader(field.key() + ".width", object.value("width", json())).Integer(1, kLongestSide);
  pixels.height =
      FieldReader(field.key() + ".height", object.value("height", json())).Integer(1, kLongestSide);
  const std::string path = FoundFile(FieldReader(field.key() + ".rgb", object.at("rgb")), roots);
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const int64_t found = in ? static_cast<int64_t>(in.tellg()) : -1;
  const int64_t expected = pixels.width * pixels.height * 3;
  if (found != expected) {
    throw Error(ErrorKind::kImage,
                "'" + field.key() + "': expected " + std::to_string(expected) +
                    " bytes (height, width, RGB), found " + std::to_string(found),
                {{"file", path}});
  }
  pixels.rgb.resize(static_cast<size_t>(expected));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(pixels.rgb.data()), expected);
  if (!in) throw Error(ErrorKind::kImage, "cannot be read", {{"file", path}});
  return pixels;
}

void AllowKeys(const FieldReader& field, const std::vector<std::string>& allowed) {
  for (const auto& item : field.value().items()) {
    if (std::find(allowed.begin(), allowed.end(), item.key()) != allowed.end()) continue;
    std::string known;
    for (const std::string& name : allowed) known += (known.empty() ? "" : ", ") + name;
    RefuseKey(field.key() + "." + item.key(), known);
  }
}

ImageSource ReadImageObject(const FieldReader& field, const ImageRoots& roots) {
  const json& object = field.value();
  if (object.contains("frames")) {
    AllowKeys(field, {"frames", "fps"});
    VideoFrames video;
    const FieldReader frames(field.key() + ".frames", object.at("frames"));
    for (size_t i = 0; i < frames.List().size(); ++i) {
      video.frames.push_back(FoundFile(frames.At(i), roots));
    }
    if (object.contains("fps")) {
      video.fps = FieldReader(field.key() + ".fps", object.at("fps")).Number(1e-6, 1e6);
    }
    return video;
  }
  if (object.contains("canvas")) {
    AllowKeys(field, {"canvas"});
    return VideoCanvas{FoundFile(FieldReader(field.key() + ".canvas", object.at("canvas")), roots)};
  }
  if (object.contains("rgb")) {
    AllowKeys(field, {"rgb", "width", "height"});
    return ReadPixels(object, field, roots);
  }
  field.Refuse("a file's name, or an object with frames, canvas or rgb");
}

std::vector<ImageSource> ReadImages(const FieldReader& field, const ImageRoots& roots) {
  std::vector<ImageSource> images;
  for (size_t i = 0; i < field.List().size(); ++i) {
    const FieldReader image = field.At(i);
    images.push_back(image.value().is_object() ? ReadImageObject(image, roots)
                                               : ImageAt(FindImage(image.Text(), roots)));
  }
  return images;
}

InferMode ReadInferMode(const FieldReader& field) {
  const std::string mode = field.Text();
  if (mode == "base") return InferMode::kBase;
  if (mode == "web") return InferMode::kWeb;
  if (mode == "write") return InferMode::kWrite;
  field.Refuse("\"base\", \"web\" or \"write\"");
}

Specials ReadSpecials(const FieldReader& field) {
  const std::string specials = field.Text();
  if (specials == "reference") return Specials::kReference;
  if (specials == "literal") return Specials::kLiteral;
  field.Refuse("\"reference\" or \"literal\"");
}

// One request being read. Keys come in any order, so what depends on others is settled in Finish.
class RequestReader {
 public:
  explicit RequestReader(const ImageRoots& roots) : roots_(roots) {
    parsed_.request.specials = Specials::kReference;
  }

  ParsedRequest Read(const json& object) {
    if (!object.is_object()) FieldReader("request", object).Refuse("an object");
    // `generate` wins over generation keys under `chat`, so it is read last.
    if (object.contains("chat")) ReadChat(FieldReader("chat", object.at("chat")));
    for (const auto& item : object.items()) ReadTop(item.key(), item.value());
    if (object.contains("generate")) ReadGenerate(FieldReader("generate", object.at("generate")));
    if (!object.contains("query") && !parsed_.request.token_ids) {
      throw Error(ErrorKind::kRequest, "the key 'query' is missing", {{"key", "query"}});
    }
    return std::move(parsed_);
  }

 private:
  void ReadTop(const std::string& key, const json& value) {
    Request& request = parsed_.request;
    const FieldReader field(key, value);
    if (key == "images") {
      if (value.is_null()) {
        request.text_path = true;
      } else {
        request.images = ReadImages(field, roots_);
      }
      return;
    }
    if (key == "call") {
      ReadCall(field);
      return;
    }
    if (key == "chat" || key == "generate" || IsRecord(key)) return;
    if (value.is_null() && key != "query") {
      if (!IsOptionalText(key)) RefuseTopKey(key);
      return;
    }
    if (key == "query") {
      request.query = field.Text();
    } else if (key == "history") {
      request.history = ReadHistory(field);
    } else if (key == "meta_instruction") {
      ReadMeta(field);
    } else if (key == "id") {
      request.id = field.Text();
    } else if (key == "deadline_s") {
      request.deadline_s = field.Number(0, kLongestDeadline);
    } else if (key == "stop") {
      request.generation.stop = field.Texts();
    } else if (key == "specials") {
      request.specials = ReadSpecials(field);
    } else if (key == "token_ids") {
      request.token_ids = field.Ids(kPictureId);
    } else {
      RefuseTopKey(key);
    }
  }

  static bool IsOptionalText(const std::string& key) {
    constexpr std::array<std::string_view, 7> kOptional = {
        "history", "meta_instruction", "id", "deadline_s", "stop", "specials", "token_ids"};
    return std::find(kOptional.begin(), kOptional.end(), key) != kOptional.end();
  }

  [[noreturn]] static void RefuseTopKey(const std::string& key) {
    RefuseKey(
        key,
        "query, history, images, meta_instruction, chat, call, generate, id, deadline_s, stop, "
        "specials, token_ids");
  }

  void ReadCall(const FieldReader& field) {
    const std::string call = field.Text();
    if (call != "chat" && call != "forward") field.Refuse("\"chat\" or \"forward\"");
    parsed_.forward = call == "forward";
  }

  // The same setting in two places; they may repeat, not contradict each other.
  void ReadMeta(const FieldReader& field) {
    std::optional<std::string>& meta = parsed_.request.meta_instruction;
    const std::string text = field.Text();
    if (meta && *meta != text) {
      throw Error(ErrorKind::kRequest,
                  "'meta_instruction' and 'chat.meta_instruction' have different values; give one",
                  {{"key", field.key()}});
    }
    meta = text;
  }

  void ReadChat(const FieldReader& chat) {
    if (chat.value().is_null()) return;
    if (!chat.value().is_object()) chat.Refuse("an object");
    Request& request = parsed_.request;
    for (const auto& item : chat.value().items()) {
      const std::string key = "chat." + item.key();
      if (ReadGenerationKey(item.key(), key, item.value(), request.generation)) continue;
      const FieldReader field(key, item.value());
      const bool given = !item.value().is_null();
      if (item.key() == "hd_num") {
        if (given) request.hd_num = field.Integer(1, kMostTiles);
      } else if (item.key() == "use_meta") {
        if (given) request.use_meta = field.Flag();
      } else if (item.key() == "max_length") {
        if (given) request.max_length = field.Integer(1, kLongestPrompt);
      } else if (item.key() == "infer_mode") {
        if (given) request.infer_mode = ReadInferMode(field);
      } else if (item.key() == "meta_instruction") {
        if (given) ReadMeta(field);
      } else {
        RefuseKey(key,
                  "hd_num, use_meta, max_length, infer_mode, meta_instruction and generation "
                  "settings");
      }
    }
  }

  void ReadGenerate(const FieldReader& generate) {
    if (generate.value().is_null()) return;
    if (!generate.value().is_object()) generate.Refuse("an object");
    for (const auto& item : generate.value().items()) {
      const std::string key = "generate." + item.key();
      if (ReadGenerationKey(item.key(), key, item.value(), parsed_.request.generation)) continue;
      if (!IsIgnoredGenerationKey(item.key())) {
        RefuseKey(
            key,
            "max_new_tokens, do_sample, temperature, top_p, top_k, num_beams, "
            "repetition_penalty, length_penalty, early_stopping, eos_token_id, use_cache, seed");
      }
    }
  }

  const ImageRoots& roots_;
  ParsedRequest parsed_;
};

RequestOrError ReadOne(const json& object, const ImageRoots& roots, std::optional<size_t> index) {
  try {
    return RequestReader(roots).Read(object);
  } catch (const Error& error) {
    return index ? error.With("request", std::to_string(*index)) : error;
  }
}

}  // namespace

RequestFile ParseRequests(std::string_view text, const ImageRoots& roots, const std::string& name) {
  const json document = ParseStrictJson(text, name);
  RequestFile file;
  file.is_list = document.is_array();
  if (!file.is_list) {
    file.items.push_back(ReadOne(document, roots, std::nullopt));
    return file;
  }
  for (size_t i = 0; i < document.size(); ++i) file.items.push_back(ReadOne(document[i], roots, i));
  return file;
}

RequestFile ReadRequestFile(const std::string& path, ImageRoots roots) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) {
    const bool there = std::filesystem::exists(path, failed);
    throw Error(ErrorKind::kRequest,
                "request file '" + path + "': " +
                    (there ? "expected a regular file, found a folder, a pipe or a device"
                           : "there is no such file"),
                {{"file", path}});
  }
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const int64_t size = in ? static_cast<int64_t>(in.tellg()) : -1;
  if (size < 0 || size > kMostBytes) {
    throw Error(ErrorKind::kRequest,
                "request file '" + path + "': cannot be read, or is longer than 64 MiB",
                {{"file", path}});
  }
  std::string text(static_cast<size_t>(size), '\0');
  in.seekg(0);
  in.read(text.data(), size);
  roots.push_back(std::filesystem::path(path).parent_path());
  return ParseRequests(text, roots, path);
}

}  // namespace xcomposer::cli
