#include "client/complete.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weft::client {
namespace {

// Programs print a line TEXT<tab>DESCRIPTION for each candidate. Without one, bash and zsh offer
// files.
constexpr char kBash[] = R"(# bash completion of weft:  source <(weft completion bash)
_weft() {
  local cur=${COMP_WORDS[COMP_CWORD]} line
  COMPREPLY=()
  while IFS=$'\t' read -r line _; do
    COMPREPLY+=("$line")
  done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ ${#COMPREPLY[@]} -eq 0 ] && [[ $cur != -* ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
  fi
}
complete -F _weft weft
)";

constexpr char kZsh[] = R"(#compdef weft
# zsh completion of weft:  source <(weft completion zsh), or a file _weft in $fpath
_weft() {
  local line text
  local -a found
  for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -z $line ]] && continue
    text=${line%%$'\t'*}
    found+=("${text//:/\\:}:${line#*$'\t'}")
  done
  if (( ${#found} )); then
    _describe 'weft' found
  else
    _files
  fi
}
if [ "$funcstack[1]" = "_weft" ]; then
  _weft "$@"
else
  compdef _weft weft
fi
)";

constexpr char kFish[] = R"(# fish completion of weft:  weft completion fish | source
function __weft_complete
  set -l words (commandline -opc) (commandline -ct)
  set -l found ($words[1] __complete $words[2..-1] 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c weft -f -a '(__weft_complete)'
)";

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<std::string> FlagsOf(const CLI::Option& option) {
  std::vector<std::string> flags;
  for (const std::string& name : option.get_lnames()) flags.push_back(absl::StrCat("--", name));
  for (const std::string& name : option.get_snames()) flags.push_back(absl::StrCat("-", name));
  return flags;
}

// The options that may stand here: of the command and, by fallthrough, of those above it.
std::vector<const CLI::Option*> OptionsOf(const CLI::App& command) {
  std::vector<const CLI::Option*> options;
  for (const CLI::App* app = &command; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) options.push_back(option);
  }
  return options;
}

const CLI::Option* FindOption(const CLI::App& command, absl::string_view flag) {
  for (const CLI::Option* option : OptionsOf(command)) {
    const std::vector<std::string> flags = FlagsOf(*option);
    if (std::find(flags.begin(), flags.end(), flag) != flags.end()) return option;
  }
  return nullptr;
}

std::vector<const CLI::App*> SubcommandsOf(const CLI::App& command) {
  return command.get_subcommands(
      [](const CLI::App* sub) { return !sub->get_name().empty() && !sub->get_group().empty(); });
}

// Where the words before the last one lead.
struct Place {
  const CLI::App* command;
  const CLI::Option* value_of = nullptr;  // an option that waits for its value
  size_t arguments = 0;                   // positional ones that were given
  bool flags_ended = false;               // by "--"
};

Place Walk(const CLI::App& app, const std::vector<std::string>& words) {
  Place place{&app};
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (place.value_of != nullptr) {
      place.value_of = nullptr;
    } else if (word == "--") {
      place.flags_ended = true;
    } else if (!place.flags_ended && word.size() > 1 && word.front() == '-') {
      const CLI::Option* option = FindOption(*place.command, word);  // "--flag=value" is none
      if (option != nullptr && TakesValue(*option)) place.value_of = option;
    } else {
      const auto subcommands = SubcommandsOf(*place.command);
      const auto next = std::find_if(subcommands.begin(), subcommands.end(),
                                     [&](const auto* sub) { return sub->check_name(word); });
      if (next != subcommands.end()) {
        place.command = *next;
      } else {
        ++place.arguments;
      }
    }
  }
  return place;
}

std::vector<Candidate> FlagCandidates(const CLI::App& command) {
  std::vector<Candidate> all;
  std::set<std::string> seen;
  for (const CLI::Option* option : OptionsOf(command)) {
    for (const std::string& flag : FlagsOf(*option)) {
      if (seen.insert(flag).second) all.push_back({flag, option->get_description()});
    }
  }
  return all;
}

std::vector<Candidate> Named(const std::vector<std::string>& names) {
  std::vector<Candidate> all;
  for (const std::string& name : names) all.push_back({name, ""});
  return all;
}

// The values of an option, or of a positional argument, by its name.
std::vector<Candidate> ValueCandidates(const CLI::Option& option, const NameSource& names) {
  if (option.check_name("--output") && option.get_type_name().find('|') != std::string::npos) {
    return Named(absl::StrSplit(option.get_type_name(), '|'));
  }
  if (option.check_name("--context")) return Named(names("CONTEXT"));
  const std::string kind = option.get_name(/*positional=*/true, /*all_options=*/false);
  if (kind == "SHELL") return Named({"bash", "zsh", "fish"});
  return Named(names(kind));
}

std::vector<Candidate> ArgumentCandidates(const Place& place, const NameSource& names) {
  std::vector<Candidate> all;
  if (place.arguments == 0) {
    for (const CLI::App* sub : SubcommandsOf(*place.command)) {
      all.push_back({sub->get_name(), sub->get_description()});
    }
  }
  if (!all.empty()) return all;
  std::vector<const CLI::Option*> positionals = place.command->get_options(
      [](const CLI::Option* option) { return option->get_positional(); });
  if (positionals.empty()) return {};
  const size_t at = std::min(place.arguments, positionals.size() - 1);
  // Only a list of names goes on behind the last argument.
  const bool list = positionals[at]->get_items_expected_max() > 1;
  if (place.arguments >= positionals.size() && !list) return {};
  return ValueCandidates(*positionals[at], names);
}

}  // namespace

std::vector<Candidate> Complete(const CLI::App& app, const std::vector<std::string>& words,
                                const NameSource& names) {
  std::string prefix = words.empty() ? "" : words.back();
  const Place place = Walk(app, words);
  std::vector<Candidate> all;
  if (place.value_of != nullptr) {
    all = ValueCandidates(*place.value_of, names);
  } else if (!place.flags_ended && absl::StartsWith(prefix, "-")) {
    all = FlagCandidates(*place.command);
  } else {
    all = ArgumentCandidates(place, names);
  }
  std::vector<Candidate> fitting;
  for (Candidate& candidate : all) {
    if (absl::StartsWith(candidate.text, prefix)) fitting.push_back(std::move(candidate));
  }
  return fitting;
}

std::string CompletionScript(const std::string& shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  if (shell == "fish") return kFish;
  return "";
}

}  // namespace weft::client
