#pragma once

/// Everything the library offers. Headers need C++17 and the standard library only.

#include "xcomposer/benchmark.h"
#include "xcomposer/checkpoint.h"
#include "xcomposer/devices.h"
#include "xcomposer/engine.h"
#include "xcomposer/error.h"
#include "xcomposer/image.h"
#include "xcomposer/log.h"
#include "xcomposer/plan.h"
#include "xcomposer/ranks.h"
#include "xcomposer/request.h"
#include "xcomposer/session.h"
#include "xcomposer/tokenizer.h"
#include "xcomposer/version.h"
