// What a spec says about the mixer of a layer, as the model takes it.
#pragma once

#include "weft/v1/job_spec.pb.h"
#include "worker/model/mixers/mixer_config.h"

namespace weft::worker {

// `spec` has all its defaults filled in.
MixerConfig MixerFromSpec(const v1::MixerSpec& spec);

}  // namespace weft::worker
