// The rules of the sections of a job spec: each fills in its defaults and reports what is wrong.
// Private to proto/spec; resolve.h is the way in.
#pragma once

#include <cstdint>
#include <string>

#include "proto/spec/data_facts.h"
#include "proto/spec/rules.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::spec {

inline constexpr int64_t kMaxSequence = 1 << 20;

// `data`: as given. `sequence_length`: as given; 0 when it is not.
void ResolveModel(Rules& rules, v1::ModelSpec& model, const v1::DataSpec& data,
                  int64_t sequence_length);
// Parts of it: first the kind of the model, and after its sizes the head that goes with it.
void ResolveKind(Rules& rules, v1::ModelSpec& model, const DataFacts& data);
void ResolveHead(Rules& rules, v1::ModelSpec& model);
// That the model has the head that the targets ask for. `source`: the name of the data.
void CheckKind(Rules& rules, const v1::ModelSpec& model, const DataFacts& data,
               absl::string_view source);
// Whether a sequence or pair has one class.
bool HasOneTarget(const v1::ModelSpec& model);
// `path` is that of the mixer; the scalar defaults of `model` are filled in already.
void ResolveMixer(Rules& rules, const std::string& path, v1::MixerSpec& mixer,
                  const v1::ModelSpec& model);
// The sizes of `model` are filled in already; those of `training` are as given.
void ResolveData(Rules& rules, v1::DataSpec& data, const v1::ModelSpec& model,
                 const v1::TrainingSpec& training);
void ResolveTraining(Rules& rules, v1::TrainingSpec& training);
// That draws can tell the heads of a batch and of an evaluation apart. All else is filled in.
void CheckDraws(Rules& rules, const v1::JobSpec& spec);
// The mixers of `model` are known already.
void ResolveMemory(Rules& rules, v1::MemorySpec& memory, const v1::ModelSpec& model);

}  // namespace weft::spec
