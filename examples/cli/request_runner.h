#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "request_json.h"
#include "xcomposer/engine.h"

namespace xcomposer::cli {

using Outcome = std::variant<Result, Error>;

/// Runs one request and ends it early on Ctrl-C; `on_event` sees its text and its progress. Throws
/// the request's error.
Result RunOne(Engine& engine, const ParsedRequest& parsed, const EventCallback& on_event);

/// Runs a list with at most `in_flight` requests at once. Outcomes are in the order of the
/// requests; `on_outcome` sees them in that order too, each as soon as all before it are there.
/// After Ctrl-C what runs is cancelled and what has not started becomes a kCancelled error.
void RunList(Engine& engine, const std::vector<RequestOrError>& requests, size_t in_flight,
             const std::function<void(size_t index, const Outcome& outcome)>& on_outcome);

}  // namespace xcomposer::cli
