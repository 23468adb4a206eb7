#include "api/prepare.h"

#include <cmath>
#include <utility>

#include "api/answer_stream.h"
#include "api/pictures.h"
#include "base/check.h"
#include "base/log.h"
#include "input/prompt.h"

namespace xcomposer::api {
namespace {

constexpr int64_t kLongestPrompt = int64_t{1} << 30;  // rows, as in config.json

void CheckInferMode(InferMode mode, const ModelConfig& config) {
  if (mode == InferMode::kBase) return;
  Require(config.kind == Kind::k25_7b, ErrorKind::kRequest,
          "infer_mode asks for an adapter, but this checkpoint is a ", ToString(config.kind),
          "; only 2.5-7b has adapters");
  const bool web = mode == InferMode::kWeb;
  const AdapterRanks& ranks = config.adapters;
  const bool there = web ? ranks.web > 0 : ranks.sft > 0 && ranks.dpo > 0;
  Require(there, ErrorKind::kRequest, "infer_mode is \"", web ? "web" : "write",
          "\", but this checkpoint has no adapter for it (no tensors ",
          web ? "lora_web_*" : "lora_sft_* and lora_dpo_*", "); \"base\" needs none");
}

/// What only the chat of 2.5 takes.
void CheckArgumentsOf25(const Request& request, const ModelConfig& config) {
  CheckInferMode(request.infer_mode, config);
  const bool takes = config.kind == Kind::k25_7b;
  // Elsewhere true changes nothing: the system text is always there.
  Require(takes || request.use_meta.value_or(true), ErrorKind::kRequest,
          "use_meta is false, but this checkpoint is a ", ToString(config.kind),
          ", which always uses its system text; give an empty meta_instruction to leave it out");
  if (!request.max_length) return;
  Require(takes, ErrorKind::kRequest, "max_length is given, but this checkpoint is a ",
          ToString(config.kind), ", whose prompts keep the ", config.max_length,
          " rows of its config.json; only 2.5-7b takes another number");
  Require(*request.max_length >= 1 && *request.max_length <= kLongestPrompt, ErrorKind::kRequest,
          "max_length is ", *request.max_length, ", expected 1 to ", kLongestPrompt);
  Require(!request.token_ids, ErrorKind::kRequest,
          "max_length cuts a prompt that is text; token_ids are taken whole");
}

void CheckRequest(const Request& request, const RequestContext& context) {
  Require(!(request.text_path && request.images), ErrorKind::kRequest,
          "pictures and the text path (images: null) exclude each other");
  if (request.token_ids) {
    Require(request.query.empty() && request.history.empty() && !request.meta_instruction,
            ErrorKind::kRequest,
            "token_ids hold the whole prompt: query, history and system text must be absent");
  } else {
    Require(context.tokenizer != nullptr, ErrorKind::kTokenizer,
            "the checkpoint folder has no tokenizer.model; a request must then give token_ids");
  }
  CheckArgumentsOf25(request, context.config);
  Require(request.generation.stop.empty() || context.tokenizer != nullptr, ErrorKind::kRequest,
          "stop strings need the checkpoint's tokenizer.model, which is missing");
  if (request.deadline_s) {
    Require(
        std::isfinite(*request.deadline_s) && *request.deadline_s > 0 && *request.deadline_s <= 1e9,
        ErrorKind::kRequest, "deadline_s is ", *request.deadline_s,
        "; expected seconds above 0, up to 1e9");
  }
}

PromptStyle StyleOf(const Request& request, const ModelConfig& config) {
  PromptStyle style = PromptStyleFor(config);
  if (request.max_length) style.max_length = *request.max_length;
  return style;
}

PictureArgument PictureArgumentOf(const Request& request) {
  if (request.text_path) return PictureArgument::kNull;
  return request.images ? PictureArgument::kList : PictureArgument::kAbsent;
}

Prompt PromptOf(const Request& request, const RequestContext& context,
                const std::vector<int64_t>& picture_rows) {
  const PromptStyle style = StyleOf(request, context.config);
  if (request.token_ids) {
    return PromptFromIds(style, {.ids = *request.token_ids,
                                 .pictures = PictureArgumentOf(request),
                                 .picture_rows = picture_rows,
                                 .bos_id = context.config.bos_id});
  }
  PromptRequest prompt;
  prompt.query = request.query;
  for (const Turn& turn : request.history) prompt.history.push_back({turn.query, turn.answer});
  prompt.pictures = PictureArgumentOf(request);
  prompt.picture_rows = picture_rows;
  prompt.meta_instruction = request.meta_instruction;
  prompt.use_meta = request.use_meta;
  prompt.specials =
      request.specials == Specials::kLiteral ? SpecialsMode::kLiteral : SpecialsMode::kReference;
  prompt.place_missing_marks_first = request.place_missing_marks_first;
  return BuildPrompt(*context.tokenizer, style, prompt);
}

EarlyStop EarlyStopOf(EarlyStopping value) {
  switch (value) {
    case EarlyStopping::kFalse:
      return EarlyStop::kNo;
    case EarlyStopping::kTrue:
      return EarlyStop::kYes;
    case EarlyStopping::kNever:
      return EarlyStop::kNever;
  }
  return EarlyStop::kNo;
}

std::vector<int32_t> StopIds(const RequestContext& context) {
  std::vector<int32_t> ids = {context.config.eos_id};
  if (context.tokenizer) {
    if (const auto end = context.tokenizer->turn_end_id(); end && *end != ids.front()) {
      ids.push_back(*end);
    }
  }
  return ids;
}

// Request over the kind's chat defaults over generation_config.json (the last two are merged
// already).
SearchOptions SearchOf(const GenerationOptions& asked, const RequestContext& context) {
  const GenerationDefaults& kind = context.defaults;
  SearchOptions search;
  search.max_new_tokens = asked.max_new_tokens.value_or(kind.max_new_tokens);
  search.num_beams = asked.num_beams.value_or(kind.num_beams);
  // Beams with sampling are refused; who asks for beams alone means beam search.
  search.do_sample = asked.do_sample.value_or(search.num_beams == 1 && kind.do_sample);
  search.temperature = asked.temperature.value_or(kind.temperature);
  search.top_k = asked.top_k.value_or(kind.top_k);
  search.top_p = asked.top_p.value_or(kind.top_p);
  search.repetition_penalty = asked.repetition_penalty.value_or(kind.repetition_penalty);
  search.length_penalty = asked.length_penalty.value_or(kind.length_penalty);
  search.early_stopping = asked.early_stopping  ? EarlyStopOf(*asked.early_stopping)
                          : kind.early_stopping ? EarlyStop::kYes
                                                : EarlyStop::kNo;
  search.eos_token_id = asked.eos_token_id.value_or(StopIds(context));
  search.seed = asked.seed;
  return search;
}

Adapter AdapterOf(InferMode mode) {
  switch (mode) {
    case InferMode::kBase:
      return Adapter::kBase;
    case InferMode::kWeb:
      return Adapter::kWeb;
    case InferMode::kWrite:
      return Adapter::kWrite;
  }
  return Adapter::kBase;
}

}  // namespace

PreparedRequest Prepare(const Request& request, const RequestContext& context) {
  // The deadline counts from submission: reading the pictures is part of the answer's time.
  const auto submitted = std::chrono::steady_clock::now();
  CheckRequest(request, context);

  PreparedRequest prepared;
  Job& job = prepared.job;
  job.search = SearchOf(request.generation, context);
  Validate(job.search, context.config.vocab_size);

  PreparedPictures pictures = PreparePictures(request, context);
  Prompt prompt = PromptOf(request, context, pictures.rows);
  for (const int64_t unused : prompt.unused_pictures) {
    log::Warn("picture ", unused, " of the request has no place in the prompt and is ignored");
  }

  prepared.prompt_truncated = prompt.truncated_rows;
  job.id = request.id;
  job.ids = std::move(prompt.ids);
  for (const PictureRows& rows : prompt.pictures) {
    job.spans.push_back({rows.first_row, rows.row_count, rows.picture});
  }
  job.pictures = std::move(pictures.pictures);
  // The prompt takes pictures in their order; what has no place in it is not encoded.
  job.pictures.resize(prompt.pictures.size());
  job.penalty_ids = std::move(prompt.penalty_ids);
  // The reference forces the cache on for prompts given as embeddings.
  job.text_path = prompt.text_path && !request.generation.use_cache.value_or(false);
  job.adapter = AdapterOf(request.infer_mode);
  job.wants_progress = request.reports_progress;
  if (request.deadline_s) {
    job.deadline = submitted + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                   std::chrono::duration<double>(*request.deadline_s));
  }
  if (context.tokenizer) {
    job.text = std::make_unique<AnswerStream>(context.tokenizer, request.generation.stop);
  }
  return prepared;
}

}  // namespace xcomposer::api
