#include <iostream>
#include <memory>

#include "commands.h"
#include "exit_code.h"
#include "field_reader.h"
#include "flags.h"
#include "output.h"
#include "strict_json.h"
#include "xcomposer/error.h"
#include "xcomposer/tokenizer.h"

namespace xcomposer::cli {
namespace {

struct TokenizeFlags {
  std::string model;
  bool decode = false;
  bool hugging_face = false;
  bool json = false;
};

nlohmann::json Convert(const Tokenizer& tokenizer, const TokenizeFlags& flags,
                       const FieldReader& line) {
  if (flags.decode) {
    line.List();  // a single number is not a list of ids
    const std::vector<int32_t> ids = line.Ids(0);
    return flags.hugging_face ? tokenizer.DecodeAsPython(ids) : tokenizer.Decode(ids);
  }
  const std::string text = line.Text();
  return flags.hugging_face ? tokenizer.EncodeAsPython(text) : tokenizer.Encode(text);
}

int Tokenize(const TokenizeFlags& flags) {
  const Tokenizer tokenizer = Tokenizer::Load(flags.model);
  int64_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const std::string name = "line " + std::to_string(++number);
    try {
      const nlohmann::json value = ParseStrictJson(line, name);
      std::cout << ToLine(Convert(tokenizer, flags, FieldReader(name, value))) << '\n';
    } catch (const Error& error) {
      throw error.With("line", std::to_string(number));
    }
  }
  std::cout.flush();
  return kDone;
}

}  // namespace

void AddTokenize(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "tokenize", "Turn lines of JSON strings into lines of token ids, from standard input");
  auto flags = std::make_shared<TokenizeFlags>();
  AddModelFlag(*command, flags->model);
  command->add_flag("--decode", flags->decode, "The other way: lists of ids into strings");
  command->add_flag("--hf", flags->hugging_face,
                    "As the checkpoint's Python tokenizer does (BOS, special strings, clean-up)");
  AddJsonFlag(*command, flags->json);
  NameEnvironmentVariables(*command);
  command->callback([flags, &chosen] {
    chosen.json = flags->json;
    chosen.run = [flags] { return Tokenize(*flags); };
  });
}

}  // namespace xcomposer::cli
