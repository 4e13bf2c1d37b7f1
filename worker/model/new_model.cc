#include "common/base/status_macros.h"
#include "worker/model/classifier.h"
#include "worker/model/language_model.h"
#include "worker/model/model.h"

namespace weft::worker {

absl::StatusOr<std::unique_ptr<const Model>> NewModel(const ModelConfig& config) {
  if (HasOneTarget(config)) {
    WEFT_ASSIGN_OR_RETURN(std::unique_ptr<const Model> model, Classifier::Create(config));
    return model;
  }
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<const Model> model, LanguageModel::Create(config));
  return model;
}

}  // namespace weft::worker
