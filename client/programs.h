// Programs of ours that the command line starts.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weft::client {

// The path of a program that lies beside this one (or in $WEFT_LIBEXEC).
std::string ProgramPath(absl::string_view name);

// Goes on as that program: returns only when it cannot be started.
absl::Status BecomeProgram(absl::string_view name, const std::vector<std::string>& arguments);

// Makes `text` what standard input gives.
absl::Status GiveAsInput(absl::string_view text);

}  // namespace weft::client
