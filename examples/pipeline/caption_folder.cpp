// A pipeline of one's own: caption every picture of a folder into JSON lines.
//
//   xcomposer_caption_folder CHECKPOINT FOLDER [QUESTION] > captions.jsonl
//
// One engine answers several requests at once; a line is printed as soon as its picture is done, in
// whatever order that is. A picture that cannot be read becomes a line with its error.
#include <xcomposer/xcomposer.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

namespace {

constexpr size_t kInFlight = 8;

void PrintLine(const std::string& file, const std::string& key, const std::string& value) {
  const nlohmann::json line = {{"file", file}, {key, value}};
  std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

std::deque<std::string> FilesOf(const std::string& folder) {
  std::deque<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

xcomposer::Request CaptionRequest(const std::string& file, const std::string& question) {
  xcomposer::Request request;
  request.id = file;
  request.images = {xcomposer::ImageFile{file}};
  request.query = "<ImageHere>" + question;
  request.generation.do_sample = false;
  request.generation.max_new_tokens = 256;
  return request;
}

// Prints the line of a finished request; false while it is still at work.
bool Finished(xcomposer::Engine& engine, xcomposer::RequestId id, const std::string& file) {
  while (auto event = engine.Await(id, std::chrono::milliseconds(20))) {
    if (event->type == xcomposer::Event::Type::kDone) {
      PrintLine(file, "caption", event->result->text);
      return true;
    }
    if (event->type == xcomposer::Event::Type::kError) {
      PrintLine(file, "error", event->error->what());
      return true;
    }
  }
  return false;
}

void CaptionFolder(xcomposer::Engine& engine, const std::string& folder,
                   const std::string& question) {
  std::deque<std::string> waiting = FilesOf(folder);
  std::deque<std::pair<xcomposer::RequestId, std::string>> running;
  while (!waiting.empty() || !running.empty()) {
    if (!waiting.empty() && running.size() < kInFlight) {
      const std::string file = waiting.front();
      waiting.pop_front();
      try {
        running.emplace_back(engine.Submit(CaptionRequest(file, question)), file);
      } catch (const xcomposer::Error& error) {
        PrintLine(file, "error", error.what());
      }
      continue;
    }
    const auto [id, file] = running.front();
    running.pop_front();
    if (!Finished(engine, id, file)) running.emplace_back(id, file);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::cerr << "usage: xcomposer_caption_folder CHECKPOINT FOLDER [QUESTION]\n";
    return 2;
  }
  try {
    xcomposer::EngineOptions options;
    options.model = argv[1];
    xcomposer::Engine engine = xcomposer::Engine::Load(options);
    CaptionFolder(engine, argv[2], argc == 4 ? argv[3] : "Please describe this image in detail.");
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
