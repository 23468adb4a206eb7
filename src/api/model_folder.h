#pragma once

#include <filesystem>
#include <string>

namespace xcomposer::api {

/// The folder that `model` means: itself where it is a folder, otherwise the snapshot of that
/// Hugging Face repository in the local cache (HF_HUB_CACHE, HF_HOME/hub,
/// ~/.cache/huggingface/hub). Nothing is ever downloaded. Throws kCheckpoint that names every place
/// looked at.
std::filesystem::path FindModelFolder(const std::string& model);

}  // namespace xcomposer::api
