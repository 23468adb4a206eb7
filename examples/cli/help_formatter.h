#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace xcomposer::cli {

/// One line per option: the names of the environment variables follow a rule and are not repeated.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override;
};

}  // namespace xcomposer::cli
