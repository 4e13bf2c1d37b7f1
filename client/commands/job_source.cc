// The flags of every command that takes a job: a file or a preset, and changes.

#include "client/commands.h"

namespace weft::client {

void AddJobSource(CLI::App& command, JobSource& source) {
  command.add_option("FILE,-f,--file", source.file,
                     "The job's spec in YAML or JSON; - reads it from standard input");
  command.add_option("--preset", source.preset,
                     "Instead of a file: a spec that comes with the program (weft presets)");
  command
      .add_option("--set", source.settings,
                  "Change the spec: PATH=VALUE, such as training.steps=100 (may be repeated)")
      ->allow_extra_args(false);
}

}  // namespace weft::client
