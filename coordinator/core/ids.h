// The identities of the control plane. Each is a type of its own, so that a generation is never
// passed for a step.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/strong_int.h"

namespace weft::coordinator {

// Given by the coordinator in the order of submission, from 1; never used twice, also after a
// deletion. First come, first served goes by it.
using JobId = StrongInt<struct JobIdTag>;

// One forming of a job's gang, counted from 1 within the job; 0 = never placed. Everything that a
// rank says or writes carries it, and is refused when it is not the job's present one.
using Generation = StrongInt<struct GenerationTag>;

// Optimizer updates done since the job began; 0 before the first.
using StepIndex = StrongInt<struct StepIndexTag>;

// Workers and queues are named by their operator; the service checks the names.
using WorkerName = std::string;
using QueueName = std::string;

// Which start of an agent's process; opaque, new with every start. Ranks die with their agent's
// process, so those of another incarnation are gone.
using Incarnation = std::string;

// The queue that always exists, takes jobs that name none, and cannot be deleted.
inline constexpr char kDefaultQueue[] = "default";

}  // namespace weft::coordinator
