#pragma once

#include <functional>
#include <memory>

#include "api/prepare.h"
#include "batch/executor.h"
#include "xcomposer/engine.h"

namespace xcomposer::api {

/// A checkpoint folder turned into what an engine needs.
struct LoadedModel {
  RequestContext context;
  std::unique_ptr<Executor> executor;
  ModelInfo info;
};

/// Opens, checks, places and loads. Throws as Engine::Load does.
LoadedModel LoadModel(const EngineOptions& options);

}  // namespace xcomposer::api
