#include "sheet.h"

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <sstream>
#include <stdexcept>

namespace {

constexpr int kColumns = 6;
constexpr int kPicture = 168;
constexpr int kCellWidth = 220;
constexpr int kTextTop = kPicture + 30;
constexpr int kLineHeight = 17;
constexpr int kCellHeight = kTextTop + 8 * kLineHeight;
constexpr int kTitleHeight = 44;
constexpr double kFontScale = 0.43;
const cv::Scalar kBlack(40, 40, 40), kGray(120, 120, 120), kGreen(40, 130, 30), kRed(40, 40, 210);

bool IsAscii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 32 && c < 127; });
}

int WidthOf(const std::string& text) {
  int baseline = 0;
  return cv::getTextSize(text, cv::FONT_HERSHEY_SIMPLEX, kFontScale, 1, &baseline).width;
}

// Breaks a text into lines of a cell's width.
std::vector<std::string> Wrap(const std::string& text) {
  std::vector<std::string> lines(1);
  std::istringstream in(text);
  for (std::string word; in >> word;) {
    const std::string longer = lines.back().empty() ? word : lines.back() + " " + word;
    if (WidthOf(longer) <= kCellWidth - 20 || lines.back().empty()) {
      lines.back() = longer;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

// Writes from a given line on and moves on.
void WriteLines(cv::Mat& cell, const std::string& text, const cv::Scalar& color, int& line) {
  for (const std::string& part : Wrap(text)) {
    cv::putText(cell, part, {10, kTextTop + line * kLineHeight}, cv::FONT_HERSHEY_SIMPLEX,
                kFontScale, color, 1, cv::LINE_AA);
    ++line;
  }
}

bool IsDrawn(const Answer& answer) {
  return IsAscii(answer.question + answer.answer + answer.expected);
}

void DrawCell(const Cell& cell, cv::Mat area) {
  const cv::Mat picture = cv::imread(cell.picture, cv::IMREAD_COLOR);
  if (picture.empty()) throw std::runtime_error("cannot read " + cell.picture);
  cv::Mat large;
  cv::resize(picture, large, {kPicture, kPicture}, 0, 0, cv::INTER_NEAREST);
  large.copyTo(area(cv::Rect((kCellWidth - kPicture) / 2, 8, kPicture, kPicture)));
  int line = 0;
  for (const Answer& answer : cell.answers) {
    if (!IsDrawn(answer)) continue;
    WriteLines(area, answer.question, kGray, line);
    WriteLines(area, answer.answer, answer.right() ? kGreen : kRed, line);
    if (!answer.right()) WriteLines(area, "wrong: expected " + answer.expected, kRed, line);
  }
}

}  // namespace

void DrawSheet(const std::vector<Cell>& cells, const std::string& title, const std::string& file) {
  const int rows = (static_cast<int>(cells.size()) + kColumns - 1) / kColumns;
  cv::Mat sheet(kTitleHeight + rows * kCellHeight, kColumns * kCellWidth, CV_8UC3,
                cv::Scalar(255, 255, 255));
  int64_t left_out = 0;
  for (const Cell& cell : cells) {
    left_out += std::count_if(cell.answers.begin(), cell.answers.end(),
                              [](const Answer& answer) { return !IsDrawn(answer); });
  }
  const std::string note =
      left_out == 0 ? "" : " (" + std::to_string(left_out) + " in Chinese are not drawn)";
  cv::putText(sheet, title + note, {12, 29}, cv::FONT_HERSHEY_SIMPLEX, 0.6, kBlack, 1, cv::LINE_AA);
  for (size_t i = 0; i < cells.size(); ++i) {
    const int column = static_cast<int>(i) % kColumns, row = static_cast<int>(i) / kColumns;
    DrawCell(cells[i], sheet(cv::Rect(column * kCellWidth, kTitleHeight + row * kCellHeight,
                                      kCellWidth, kCellHeight)));
  }
  if (!cv::imwrite(file, sheet)) throw std::runtime_error("cannot write " + file);
}
