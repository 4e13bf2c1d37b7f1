// This process's environment, to be handed on to its children.
#pragma once

#include <string>
#include <vector>

namespace weft::worker {

// NAME=value. Read it while no other thread changes the environment: nobody here does.
std::vector<std::string> OwnEnvironment();

// The folder that our programs are in: WEFT_LIBEXEC, else that of this program.
std::string ProgramDirectory();

}  // namespace weft::worker
