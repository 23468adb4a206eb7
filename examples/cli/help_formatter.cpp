#include "help_formatter.h"

namespace xcomposer::cli {

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  std::string text;
  if (option->get_type_size() != 0 && !option->get_type_name().empty()) {
    text = " " + option->get_type_name();
  }
  if (!option->get_default_str().empty()) text += "=" + option->get_default_str();
  if (option->get_required()) text += " REQUIRED";
  return text;
}

}  // namespace xcomposer::cli
