#include "plan_json.h"

namespace xcomposer::cli {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const PlanBytes& bytes) {
  return {{"weights", bytes.weights},
          {"kv", bytes.kv},
          {"activations", bytes.activations},
          {"vision", bytes.vision},
          {"workspace", bytes.workspace},
          {"overhead", bytes.overhead},
          {"total", bytes.total()}};
}

Json ToJson(const PlannedDevice& device) {
  return {{"device", device.device},
          {"kind", device.kind},
          {"model", device.model},
          {"memory", device.memory},
          {"budget", device.budget},
          {"parts", device.parts},
          {"first_layer", device.first_layer},
          {"last_layer", device.last_layer},
          {"bytes", ToJson(device.bytes)},
          {"overhead_of",
           {{"runtime", device.overhead.runtime},
            {"activations", device.overhead.activations},
            {"workspace", device.overhead.workspace}}},
          {"headroom", device.headroom()},
          {"step_s", device.step_s},
          {"hop_s", device.hop_s},
          {"request_s", device.request_s},
          {"request_hop_s", device.request_hop_s}};
}

Json ToJson(const std::vector<PlannedDevice>& devices) {
  Json list = Json::array();
  for (const PlannedDevice& device : devices) list.push_back(ToJson(device));
  return list;
}

Json ToJson(const std::vector<std::pair<std::string, double>>& seconds_of) {
  Json json = Json::object();
  for (const auto& [device, seconds] : seconds_of) json[device] = seconds;
  return json;
}

Json ToJson(const PlannedModule& module) {
  return {{"name", module.name},
          {"weight_bytes", module.weight_bytes},
          {"kv_bytes", module.kv_bytes},
          {"activation_bytes", module.activation_bytes},
          {"workspace_bytes", module.workspace_bytes},
          {"step_s", ToJson(module.step_s)},
          {"request_s", ToJson(module.request_s)}};
}

Json CandidatesOf(const Plan& plan) {
  Json list = Json::array();
  for (size_t i = 0; i < plan.candidates.size(); ++i) {
    const PlanCandidate& candidate = plan.candidates[i];
    Json entry = {{"device", candidate.device},
                  {"memory", candidate.memory},
                  {"budget", candidate.budget},
                  {"overhead", candidate.overhead}};
    if (!plan.hops.empty()) {
      Json hops = Json::object();
      for (size_t j = 0; j < plan.candidates.size(); ++j) {
        if (i != j) hops[plan.candidates[j].device] = plan.hops[i][j];
      }
      entry[plan.objective == "request" ? "request_hop_s" : "hop_s"] = hops;
    }
    list.push_back(entry);
  }
  return list;
}

Json ModelOf(const PlanModel& model) {
  return {{"kind", model.kind},
          {"layers", model.layers},
          {"hidden", model.hidden},
          {"vocab", model.vocab},
          {"parameters", model.parameters},
          {"weight_bytes", model.weight_bytes}};
}

Json WorkloadOf(const PlanWorkload& workload) {
  Json json = {{"context", workload.context},
               {"sequences", workload.sequences},
               {"images", workload.images},
               {"picture_size", {workload.picture_width, workload.picture_height}},
               {"picture_rows", workload.picture_rows}};
  if (workload.hd_num > 0) json["hd_num"] = workload.hd_num;
  json["prompt_rows"] = workload.prompt_rows;
  json["prefill_chunk"] = workload.prefill_chunk;
  json["answer_tokens"] = workload.answer_tokens;
  json["step_sequences"] = workload.step_sequences;
  json["weights"] = workload.weights;
  json["kv"] = workload.kv;
  return json;
}

Json ShortagesOf(const Plan& plan) {
  Json list = Json::array();
  for (const PlanShortage& shortage : plan.shortages) {
    list.push_back({{"device", shortage.device},
                    {"needed", shortage.needed},
                    {"available", shortage.available},
                    {"missing", shortage.missing()},
                    {"by_cause", ToJson(shortage.by_cause)}});
  }
  return list;
}

Json AlternativesOf(const Plan& plan) {
  Json list = Json::array();
  for (const PlanAlternative& alternative : plan.alternatives) {
    list.push_back({{"change", alternative.change},
                    {"arguments", alternative.arguments},
                    {"devices", ToJson(alternative.devices)}});
  }
  return list;
}

}  // namespace

Json ToJson(const Plan& plan) {
  Json json = {{"fits", plan.fits}, {"objective", plan.objective}};
  if (plan.fits) json["value_s"] = plan.value_s;
  json["model"] = ModelOf(plan.model);
  json["workload"] = WorkloadOf(plan.workload);
  if (plan.fits) {
    json["devices"] = ToJson(plan.devices);
    json["predicted"] = {{"decode_step_s", plan.predicted.decode_step_s},
                         {"tokens_per_s", plan.predicted.tokens_per_s},
                         {"prefill_s", plan.predicted.prefill_s},
                         {"image_s", plan.predicted.image_s},
                         {"request_s", plan.predicted.request_s}};
    json["device_map"] = Json::parse(plan.device_map);
    json["optimal"] = plan.optimal;
  } else {
    json["short"] = ShortagesOf(plan);
    json["alternatives"] = AlternativesOf(plan);
  }
  Json modules = Json::array();
  for (const PlannedModule& module : plan.modules) modules.push_back(ToJson(module));
  json["modules"] = modules;
  json["candidates"] = CandidatesOf(plan);
  json["notes"] = plan.notes;
  return json;
}

}  // namespace xcomposer::cli
