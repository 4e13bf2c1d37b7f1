// Shell completion: what may stand at the end of a command line of `weft`. The scripts that `weft
// completion` prints call the hidden command `weft __complete WORDS...`, so that the shells know no
// commands themselves.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace weft::client {

struct Candidate {
  std::string text;
  std::string description;  // may be empty

  friend bool operator==(const Candidate&, const Candidate&) = default;
};

// Names of what an argument stands for: "JOB", "WORKER", "QUEUE", "CONTEXT". Empty for any other
// kind, and when nobody answers.
using NameSource = std::function<std::vector<std::string>(const std::string& kind)>;

// `words` are those behind `weft`, the last one being the (perhaps empty) word to complete. Empty
// when the shell should offer files.
std::vector<Candidate> Complete(const CLI::App& app, const std::vector<std::string>& words,
                                const NameSource& names);

// The script for "bash", "zsh" or "fish"; empty for another shell.
std::string CompletionScript(const std::string& shell);

}  // namespace weft::client
