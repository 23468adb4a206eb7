// The library in thirty lines: load a model once, ask about a picture, print the answer as it
// grows.
//
//   xcomposer_embed CHECKPOINT PICTURE QUESTION
#include <xcomposer/xcomposer.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: xcomposer_embed CHECKPOINT PICTURE QUESTION\n";
    return 2;
  }
  try {
    xcomposer::EngineOptions options;
    options.model = argv[1];
    xcomposer::Engine engine = xcomposer::Engine::Load(options);

    xcomposer::Request request;
    request.images = {xcomposer::ImageFile{argv[2]}};
    request.query = std::string("<ImageHere>") + argv[3];
    request.generation.do_sample = false;
    request.generation.max_new_tokens = 256;

    const xcomposer::Result result =
        engine.Generate(request, [](const std::string& text) { std::cout << text << std::flush; });
    std::cout << "\n(" << result.output_ids.size() << " tokens, "
              << xcomposer::ToString(result.finish_reason) << ")\n";
  } catch (const xcomposer::Error& error) {
    std::cerr << xcomposer::ToString(error.kind()) << ": " << error.what() << '\n';
    return 1;
  }
}
