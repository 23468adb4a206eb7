// Asks a model the questions of a labels file, prints question, answer and time, and draws a
// contact sheet.
//
//   xcomposer_contact_sheet CHECKPOINT LABELS.json SHEET.png
//
// The labels file is a list of {"picture": file beside it, "questions": [{"question", "answer"},
// ...]}.
#include <xcomposer/xcomposer.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "sheet.h"

namespace {

struct Tally {
  int asked = 0;
  int right = 0;
  double seconds = 0;
};

Answer Ask(xcomposer::Engine& engine, const std::string& picture, const nlohmann::json& label,
           Tally& tally) {
  xcomposer::Request request;
  request.images = {xcomposer::ImageFile{picture}};
  request.query = "<ImageHere>" + label.at("question").get<std::string>();
  request.generation.do_sample = false;
  request.generation.max_new_tokens = 32;
  const xcomposer::Result result = engine.Generate(request);
  const double seconds =
      result.timings.image_s + result.timings.prefill_s + result.timings.decode_s;
  const Answer answer{label.at("question"), result.text, label.at("answer")};
  ++tally.asked;
  tally.right += answer.right() ? 1 : 0;
  tally.seconds += seconds;
  std::printf("%-18s %s  ->  %s%s  (%.0f ms)\n", std::filesystem::path(picture).filename().c_str(),
              answer.question.c_str(), answer.answer.c_str(),
              answer.right() ? "" : ("  [wrong: expected " + answer.expected + "]").c_str(),
              seconds * 1000);
  std::fflush(stdout);
  return answer;
}

void Run(const std::string& model, const std::string& labels_file, const std::string& sheet_file) {
  std::ifstream in(labels_file);
  if (!in) throw std::runtime_error("cannot read the labels file " + labels_file);
  const nlohmann::json labels = nlohmann::json::parse(in);
  xcomposer::EngineOptions options;
  options.model = model;
  xcomposer::Engine engine = xcomposer::Engine::Load(options);

  Tally tally;
  std::vector<Cell> cells;
  for (const nlohmann::json& label : labels) {
    const std::filesystem::path picture =
        std::filesystem::path(labels_file).parent_path() / label.at("picture").get<std::string>();
    Cell cell{picture.string(), {}};
    for (const nlohmann::json& question : label.at("questions")) {
      cell.answers.push_back(Ask(engine, cell.picture, question, tally));
    }
    cells.push_back(std::move(cell));
  }
  const std::string title = std::to_string(tally.right) + " of " + std::to_string(tally.asked) +
                            " answers right, " + std::to_string(labels.size()) +
                            " pictures that the model never saw";
  std::printf("%s, %.1f s in all\n", title.c_str(), tally.seconds);
  DrawSheet(cells, title, sheet_file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: xcomposer_contact_sheet CHECKPOINT LABELS.json SHEET.png\n";
    return 2;
  }
  try {
    Run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
