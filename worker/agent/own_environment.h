// This process's environment, to be handed on to its children.
#pragma once

#include <string>
#include <vector>

#include "weft/v1/job_spec.pb.h"

namespace weft::worker {

// NAME=value. Read it while no other thread changes the environment: nobody here does.
std::vector<std::string> OwnEnvironment();

// The folder that our programs are in: WEFT_LIBEXEC, else that of this program.
std::string ProgramDirectory();

// The program of a rank: weft-rank computes on cores, weft-rank-cuda on a GPU.
std::string RankProgram(const std::string& folder, v1::DeviceKind device);

}  // namespace weft::worker
