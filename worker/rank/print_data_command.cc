#include "worker/rank/print_data_command.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "proto/spec/parse.h"
#include "proto/spec/resolve.h"
#include "worker/data/open_data.h"
#include "worker/rank/data_from_spec.h"

namespace weft::worker {
namespace {

nlohmann::ordered_json AboutData(const SampleSource& source) {
  const SampleShape& shape = source.shape();
  return {{"data", source.Describe()},
          {"train_samples", source.sample_count(Split::kTrain)},
          {"validation_samples", source.sample_count(Split::kValidation)},
          {"sequence", shape.sequence},
          {"rows", shape.rows},
          {"vocabulary", shape.vocabulary},
          {"targets", shape.target_kind == TargetKind::kSample ? "one" : "each position"},
          {"classes", shape.classes},
          {"fingerprint", source.fingerprint()}};
}

absl::StatusOr<nlohmann::ordered_json> ReadSample(const SampleSource& source, Split split,
                                                  int64_t number) {
  const SampleShape& shape = source.shape();
  std::vector<int32_t> tokens(static_cast<size_t>(shape.token_count()));
  std::vector<int32_t> targets(static_cast<size_t>(shape.target_count()));
  std::vector<int32_t> valid(shape.padded ? tokens.size() : 0);
  WEFT_RETURN_IF_ERROR(source.Read(split, number,
                                   {.tokens = absl::MakeSpan(tokens),
                                    .targets = absl::MakeSpan(targets),
                                    .valid = absl::MakeSpan(valid)}));
  nlohmann::ordered_json sample = {{"sample", number}, {"tokens", tokens}, {"targets", targets}};
  if (shape.padded) sample["valid"] = valid;
  return sample;
}

// A path may be no UTF-8, which JSON is.
void PrintLine(const nlohmann::ordered_json& line, std::ostream& out) {
  out << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace

absl::Status PrintData(const PrintDataRequest& request, std::istream& spec_text,
                       std::ostream& out) {
  const std::string text((std::istreambuf_iterator<char>(spec_text)),
                         std::istreambuf_iterator<char>());
  v1::JobSpec spec;
  WEFT_RETURN_IF_ERROR(spec::ToStatus(spec::ParseSpec(text, spec)));
  WEFT_RETURN_IF_ERROR(spec::ToStatus(spec::ResolveSpec(spec)));
  const int32_t vocabulary = spec.model().vocab_size();
  WEFT_ASSIGN_OR_RETURN(const auto source, OpenData(DataFromSpec(spec.data(), "", vocabulary),
                                                    spec.training().sequence_length(), vocabulary));
  const Split split = request.validation ? Split::kValidation : Split::kTrain;
  const int64_t samples = source->sample_count(split);
  if (request.first >= samples) {
    return absl::OutOfRangeError(absl::StrCat("there is no sample ", request.first, ": ",
                                              request.validation ? "validation" : "training",
                                              " has ", samples));
  }
  PrintLine(AboutData(*source), out);
  const int64_t last = request.first + std::min(request.count, samples - request.first);
  for (int64_t number = request.first; number < last && out.good(); ++number) {
    WEFT_ASSIGN_OR_RETURN(const auto sample, ReadSample(*source, split, number));
    PrintLine(sample, out);
  }
  return absl::OkStatus();
}

}  // namespace weft::worker
