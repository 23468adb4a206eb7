// Uses the installed library as a stranger's program would, from C++17: errors are caught across
// the library's border, a model is loaded, and one request is answered.
#include <xcomposer/xcomposer.h>

#include <iostream>

static_assert(__cplusplus < 202002L, "the public headers are tried with C++17");

namespace {

bool FindsNoModel() {
  xcomposer::EngineOptions options;
  options.model = "/there/is/no/such/folder";
  try {
    xcomposer::Engine::Load(options);
  } catch (const xcomposer::Error& error) {
    std::cout << xcomposer::ToString(error.kind()) << ": " << error.what() << '\n';
    return error.kind() == xcomposer::ErrorKind::kCheckpoint ||
           error.kind() == xcomposer::ErrorKind::kConfig;
  }
  return false;
}

bool Answers(const char* model) {
  xcomposer::EngineOptions options;
  options.model = model;
  xcomposer::Engine engine = xcomposer::Engine::Load(options);
  xcomposer::Request request;
  request.token_ids = {1, 5, 6, 7};
  request.generation.do_sample = false;
  request.generation.max_new_tokens = 3;
  const xcomposer::Result result = engine.Generate(request);
  std::cout << engine.info().kind << ", " << result.output_ids.size() << " tokens\n";
  return !result.output_ids.empty();
}

}  // namespace

int main(int argc, char** argv) {
  std::cout << "xcomposer " << xcomposer::Version() << '\n';
  if (xcomposer::Machine().devices.empty() || !FindsNoModel()) return 1;
  return argc < 2 || Answers(argv[1]) ? 0 : 1;
}
