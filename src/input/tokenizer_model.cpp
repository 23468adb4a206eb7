#include "input/tokenizer_model.h"

#include <bit>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "base/check.h"
#include "base/utf8.h"

namespace xcomposer {
namespace {

template <typename... Parts>
void Expect(bool condition, const Parts&... message) {
  Require(condition, ErrorKind::kTokenizer, "tokenizer.model: ", message...);
}

/// One field of a protocol buffer message.
struct Field {
  uint64_t number = 0;
  enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } wire = Wire::kVarint;
  uint64_t value = 0;      // kVarint, kFixed32, kFixed64
  std::string_view bytes;  // kBytes
};

/// Walks the fields of a message. Groups, which the format has given up, are refused.
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  std::optional<Field> Next() {
    if (rest_.empty()) return std::nullopt;
    const uint64_t key = Varint();
    Field field;
    field.number = key >> 3;
    Expect(field.number >= 1 && field.number < (uint64_t{1} << 29), "field number ", field.number,
           " is out of range");
    switch (key & 7) {
      case 0:
        field.value = Varint();
        break;
      case 1:
        field.wire = Field::Wire::kFixed64;
        field.value = Fixed(8);
        break;
      case 2: {
        field.wire = Field::Wire::kBytes;
        const uint64_t size = Varint();
        Expect(size <= rest_.size(), "field ", field.number, " wants ", size, " bytes, ",
               rest_.size(), " are left: the file is truncated or is no SentencePiece model");
        field.bytes = Take(static_cast<size_t>(size));
        break;
      }
      case 5:
        field.wire = Field::Wire::kFixed32;
        field.value = Fixed(4);
        break;
      default:
        Expect(false, "field ", field.number, " has wire type ", key & 7,
               ": the file is no SentencePiece model");
    }
    return field;
  }

 private:
  std::string_view Take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      Expect(!rest_.empty(), "ends inside a number: the file is truncated");
      const auto byte = static_cast<uint8_t>(Take(1)[0]);
      Expect(shift < 63 || byte <= 1, "a number has more than 64 bits");
      value |= uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    Expect(false, "a number has more than ten bytes");
    return 0;
  }

  uint64_t Fixed(size_t size) {
    Expect(size <= rest_.size(), "ends inside a number: the file is truncated");
    const std::string_view bytes = Take(size);
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return value;
  }

  std::string_view rest_;
};

void ExpectWire(const Field& field, Field::Wire wire, std::string_view name) {
  Expect(field.wire == wire, "field '", name, "' has the wrong wire type");
}

bool ReadBool(const Field& field, std::string_view name) {
  ExpectWire(field, Field::Wire::kVarint, name);
  return field.value != 0;
}

/// What is needed of the trainer's settings to find the special pieces.
struct Trainer {
  uint64_t model_type = 1;  // unigram, the format's default
  bool byte_fallback = false;
  std::string unknown_text = " \xE2\x81\x87 ";  // the format's default, U+2047 between spaces
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
};

void ReadTrainer(std::string_view message, Trainer* trainer) {
  FieldReader reader(message);
  while (const std::optional<Field> field = reader.Next()) {
    const auto text = [&](std::string_view name) {
      ExpectWire(*field, Field::Wire::kBytes, name);
      Expect(
          IsValidUtf8(field->bytes) && static_cast<int64_t>(field->bytes.size()) <= kMaxPieceBytes,
          "'", name, "' is not UTF-8 of at most ", kMaxPieceBytes, " bytes");
      return std::string(field->bytes);
    };
    switch (field->number) {
      case 3:
        ExpectWire(*field, Field::Wire::kVarint, "model_type");
        trainer->model_type = field->value;
        break;
      case 35:
        trainer->byte_fallback = ReadBool(*field, "byte_fallback");
        break;
      case 44:
        trainer->unknown_text = text("unk_surface");
        break;
      case 46:
        trainer->bos_piece = text("bos_piece");
        break;
      case 47:
        trainer->eos_piece = text("eos_piece");
        break;
      default:
        break;
    }
  }
}

void ReadNormalizer(std::string_view message, std::string_view name, TokenizerModel* model) {
  FieldReader reader(message);
  while (const std::optional<Field> field = reader.Next()) {
    switch (field->number) {
      case 2:
        ExpectWire(*field, Field::Wire::kBytes, "precompiled_charsmap");
        Expect(field->bytes.empty(), "its ", name, " has a character map of ", field->bytes.size(),
               " bytes; only the identity (normalization_rule_name 'identity') is supported, which "
               "the "
               "whole model family uses");
        break;
      case 3:
        model->add_dummy_prefix = ReadBool(*field, "add_dummy_prefix");
        break;
      case 4:
        model->remove_extra_whitespaces = ReadBool(*field, "remove_extra_whitespaces");
        break;
      default:
        break;
    }
  }
}

Piece ReadPiece(std::string_view message, size_t id) {
  Piece piece;
  FieldReader reader(message);
  while (const std::optional<Field> field = reader.Next()) {
    if (field->number == 1) {
      ExpectWire(*field, Field::Wire::kBytes, "piece");
      piece.text = std::string(field->bytes);
    } else if (field->number == 2) {
      ExpectWire(*field, Field::Wire::kFixed32, "score");
      Expect(std::isfinite(std::bit_cast<float>(static_cast<uint32_t>(field->value))), "piece ", id,
             " has a score that is no finite number");
    } else if (field->number == 3) {
      ExpectWire(*field, Field::Wire::kVarint, "type");
      Expect(field->value >= 1 && field->value <= 6, "piece ", id, " has the unknown type ",
             field->value);
      piece.type = static_cast<PieceType>(field->value);
    }
  }
  Expect(!piece.text.empty(), "piece ", id, " is empty");
  Expect(static_cast<int64_t>(piece.text.size()) <= kMaxPieceBytes, "piece ", id, " has ",
         piece.text.size(), " bytes; at most ", kMaxPieceBytes, " are accepted");
  Expect(IsValidUtf8(piece.text), "piece ", id, " is not valid UTF-8");
  // The library keeps them in a trie of zero-terminated strings.
  Expect(piece.type != PieceType::kUserDefined || piece.text.find('\0') == std::string::npos,
         "the user-defined piece ", id, " contains a zero byte");
  return piece;
}

int32_t FindControl(const TokenizerModel& model, const std::string& text, std::string_view role) {
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type == PieceType::kControl && piece.text == text) return static_cast<int32_t>(id);
  }
  Expect(false, "has no ", role, " piece '", text, "'");
  return 0;
}

/// Also finds the unknown piece.
void CheckPieces(bool byte_fallback, TokenizerModel* model) {
  std::unordered_set<std::string_view> seen;
  int64_t unknown = 0;
  int64_t bytes = 0;
  for (size_t id = 0; id < model->pieces.size(); ++id) {
    const Piece& piece = model->pieces[id];
    Expect(seen.insert(piece.text).second, "piece ", id, " repeats an earlier piece");
    if (piece.type == PieceType::kUnknown) {
      ++unknown;
      model->unknown_id = static_cast<int32_t>(id);
    }
    if (piece.type == PieceType::kByte) {
      ++bytes;
      Expect(ByteOfPiece(piece.text).has_value(), "byte piece ", id,
             " is not named <0x00> to <0xFF>");
    }
  }
  Expect(unknown == 1, "has ", unknown, " unknown pieces; one is expected");
  Expect(bytes == (byte_fallback ? 256 : 0), "has ", bytes, " byte pieces; ",
         byte_fallback ? "256 are expected" : "none is expected without byte_fallback");
}

}  // namespace

std::optional<uint8_t> ByteOfPiece(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return std::nullopt;
  static constexpr std::string_view kDigits = "0123456789ABCDEF";
  const size_t high = kDigits.find(text[3]);
  const size_t low = kDigits.find(text[4]);
  if (high == kDigits.npos || low == kDigits.npos) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

TokenizerModel ParseTokenizerModel(std::string_view bytes) {
  Expect(!bytes.empty(), "is empty");
  Expect(static_cast<int64_t>(bytes.size()) <= kMaxTokenizerModelBytes, "has ", bytes.size(),
         " bytes; at most ", kMaxTokenizerModelBytes, " are accepted");
  TokenizerModel model;
  Trainer trainer;
  bool has_normalizer = false;
  FieldReader reader(bytes);
  while (const std::optional<Field> field = reader.Next()) {
    if (field->number == 1) {
      ExpectWire(*field, Field::Wire::kBytes, "pieces");
      Expect(static_cast<int64_t>(model.pieces.size()) < kMaxPieces, "has more than ", kMaxPieces,
             " pieces");
      model.pieces.push_back(ReadPiece(field->bytes, model.pieces.size()));
    } else if (field->number == 2) {
      ExpectWire(*field, Field::Wire::kBytes, "trainer_spec");
      ReadTrainer(field->bytes, &trainer);
    } else if (field->number == 3) {
      ExpectWire(*field, Field::Wire::kBytes, "normalizer_spec");
      has_normalizer = true;
      ReadNormalizer(field->bytes, "normaliser", &model);
    } else if (field->number == 5) {
      // Read for its character map alone; its other settings have no effect on decoding.
      ExpectWire(*field, Field::Wire::kBytes, "denormalizer_spec");
      TokenizerModel unused;
      ReadNormalizer(field->bytes, "denormaliser", &unused);
    }
  }
  Expect(has_normalizer, "has no normalizer_spec: the file is truncated");
  Expect(trainer.model_type == 2, "is of model type ", trainer.model_type, "; BPE (2) is expected");
  CheckPieces(trainer.byte_fallback, &model);
  model.bos_id = FindControl(model, trainer.bos_piece, "begin");
  model.eos_id = FindControl(model, trainer.eos_piece, "end");
  model.unknown_text = trainer.unknown_text;
  return model;
}

}  // namespace xcomposer
