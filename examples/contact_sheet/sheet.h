#pragma once

#include <string>
#include <vector>

/// A question about a picture, what the model said and what was right.
struct Answer {
  std::string question;
  std::string answer;
  std::string expected;
  bool right() const { return answer == expected; }
};

struct Cell {
  std::string picture;  ///< file
  std::vector<Answer> answers;
};

/// Draws the pictures, enlarged, with their questions and answers under them, and writes a PNG. The
/// built-in font knows ASCII only: answers with other letters are left out of the drawing.
void DrawSheet(const std::vector<Cell>& cells, const std::string& title, const std::string& file);
