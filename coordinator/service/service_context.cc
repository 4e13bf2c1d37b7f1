#include "coordinator/service/service_context.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "coordinator/service/metric_names.h"
#include "coordinator/service/resource_names.h"

namespace weft::coordinator {

void ServiceContext::Handle(const Event& event, Driver::Done done) const {
  const absl::Time begin = loop.clock().Now();
  driver.Handle(event, std::move(done));
  metrics.Observe(kDecideSeconds, {}, absl::ToDoubleSeconds(loop.clock().Now() - begin));
}

absl::StatusOr<const Job*> ServiceContext::FindJob(absl::string_view field,
                                                   const std::string& resource) const {
  WEFT_ASSIGN_OR_RETURN(const JobName name, ParseJobResource(field, resource));
  const Job* const job = driver.state().FindJob(name.id);
  if (job != nullptr && job->name == name.name) return job;
  return absl::NotFoundError(absl::StrCat("there is no job ", resource));
}

}  // namespace weft::coordinator
