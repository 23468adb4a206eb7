#pragma once

#include <functional>
#include <memory>

#include "api/placement_report.h"
#include "api/prepare.h"
#include "batch/executor.h"
#include "xcomposer/engine.h"

namespace xcomposer::api {

/// A checkpoint folder turned into what an engine needs.
struct LoadedModel {
  RequestContext context;
  std::unique_ptr<Executor> executor;
  ModelInfo info;
  std::shared_ptr<const PlacementBook> placement;
  int64_t feature_rows = 0;  ///< of pictures that may be kept for later requests
};

/// Opens, checks, places and loads. Throws as Engine::Load does.
LoadedModel LoadModel(const EngineOptions& options);

/// A rank other than 0: opens, checks, loads its stages and serves them until the run ends. Throws
/// as Serve does.
void ServeModel(const EngineOptions& options, const std::function<bool()>& stop);

}  // namespace xcomposer::api
