#include "batch/batch.h"

#include "batch/executor.h"

// The room is headers only; this file makes sure that they compile on their own.
