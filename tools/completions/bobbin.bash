# SPDX-License-Identifier: Apache-2.0
# Written by tools/completions/make from the help texts.

_bobbin() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W "run chat tokenize detokenize template logits perplexity taps bench inspect kernels handset --help --version" -- "$cur"))
		return
	fi
	case ${COMP_WORDS[1]}:$prev in
	run:-p|run:--prompt) return ;;
	run:--system) return ;;
	run:--logprobs) return ;;
	run:--feed) return ;;
	run:-n|run:--max-tokens|run:--n-predict) return ;;
	run:--temp|run:--temperature) return ;;
	run:--top-k) return ;;
	run:--top-p) return ;;
	run:--min-p) return ;;
	run:--repetition-penalty|run:--repeat-penalty) return ;;
	run:--presence-penalty) return ;;
	run:--frequency-penalty) return ;;
	run:--logit-bias) return ;;
	run:-s|run:--seed) return ;;
	run:--stop) return ;;
	run:--stop-token-ids) return ;;
	run:--min-tokens) return ;;
	run:--json-schema) return ;;
	run:--regex) return ;;
	run:--choice) return ;;
	run:--add) return ;;
	run:--scale-head) return ;;
	run:-t|run:--threads) return ;;
	run:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	run:--device-memory-bytes) return ;;
	run:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	run:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	run:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	run:--kv-cache-bytes|run:--kv-cache-memory-bytes) return ;;
	run:--state-cache-bytes) return ;;
	run:--state-cache-type) return ;;
	run:--window) return ;;
	run:-c|run:--max-model-len|run:--ctx-size) return ;;
	chat:--system) return ;;
	chat:-n|chat:--max-tokens|chat:--n-predict) return ;;
	chat:--temp|chat:--temperature) return ;;
	chat:--top-k) return ;;
	chat:--top-p) return ;;
	chat:--min-p) return ;;
	chat:--repetition-penalty|chat:--repeat-penalty) return ;;
	chat:--presence-penalty) return ;;
	chat:--frequency-penalty) return ;;
	chat:--logit-bias) return ;;
	chat:-s|chat:--seed) return ;;
	chat:--stop) return ;;
	chat:--stop-token-ids) return ;;
	chat:--min-tokens) return ;;
	chat:-t|chat:--threads) return ;;
	chat:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	chat:--device-memory-bytes) return ;;
	chat:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	chat:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	chat:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	chat:--kv-cache-bytes|chat:--kv-cache-memory-bytes) return ;;
	chat:--state-cache-bytes) return ;;
	chat:--state-cache-type) return ;;
	chat:--window) return ;;
	chat:-c|chat:--max-model-len|chat:--ctx-size) return ;;
	logits:--chunk) return ;;
	logits:--beside) return ;;
	logits:-s|logits:--seed) return ;;
	logits:-t|logits:--threads) return ;;
	logits:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	logits:--device-memory-bytes) return ;;
	logits:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	logits:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	logits:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	logits:--kv-cache-bytes|logits:--kv-cache-memory-bytes) return ;;
	logits:--state-cache-bytes) return ;;
	logits:--state-cache-type) return ;;
	logits:--window) return ;;
	logits:-c|logits:--max-model-len|logits:--ctx-size) return ;;
	perplexity:-c|perplexity:--ctx-size|perplexity:--max-model-len) return ;;
	perplexity:-b|perplexity:--batch-size|perplexity:-ub|perplexity:--ubatch-size) return ;;
	perplexity:--chunks) return ;;
	perplexity:-t|perplexity:--threads) return ;;
	perplexity:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	perplexity:--device-memory-bytes) return ;;
	perplexity:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	perplexity:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	perplexity:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	perplexity:--kv-cache-bytes|perplexity:--kv-cache-memory-bytes) return ;;
	perplexity:--state-cache-bytes) return ;;
	perplexity:--state-cache-type) return ;;
	perplexity:--window) return ;;
	taps:-p|taps:--prompt) return ;;
	taps:-o|taps:--output) return ;;
	taps:--at) return ;;
	taps:--attention) return ;;
	taps:--kv) return ;;
	taps:--state) return ;;
	taps:--rows) return ;;
	taps:--add) return ;;
	taps:--scale-head) return ;;
	taps:-t|taps:--threads) return ;;
	taps:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	taps:--device-memory-bytes) return ;;
	taps:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	taps:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	taps:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	taps:--kv-cache-bytes|taps:--kv-cache-memory-bytes) return ;;
	taps:--state-cache-bytes) return ;;
	taps:--state-cache-type) return ;;
	taps:--window) return ;;
	taps:-c|taps:--max-model-len|taps:--ctx-size) return ;;
	bench:-p|bench:--n-prompt) return ;;
	bench:-n|bench:--n-gen) return ;;
	bench:-d|bench:--n-depth) return ;;
	bench:-np|bench:--parallel|bench:--n-parallel) return ;;
	bench:-ctk|bench:--cache-type-k) return ;;
	bench:-ctv|bench:--cache-type-v) return ;;
	bench:-r|bench:--repetitions) return ;;
	bench:-b|bench:--batch-size) return ;;
	bench:-ub|bench:--ubatch-size) return ;;
	bench:-o|bench:--output) COMPREPLY=($(compgen -W "md csv json jsonl" -- "$cur")); return ;;
	bench:-s|bench:--seed) return ;;
	bench:-t|bench:--threads) return ;;
	bench:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	bench:--device-memory-bytes) return ;;
	bench:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	bench:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	bench:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	bench:--kv-cache-bytes|bench:--kv-cache-memory-bytes) return ;;
	bench:--state-cache-bytes) return ;;
	bench:--state-cache-type) return ;;
	bench:--window) return ;;
	inspect:-t|inspect:--threads) return ;;
	inspect:--device) COMPREPLY=($(compgen -W "auto cpu" -- "$cur")); return ;;
	inspect:--device-memory-bytes) return ;;
	inspect:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	inspect:--gemm) COMPREPLY=($(compgen -W "exact fast" -- "$cur")); return ;;
	inspect:--kv-cache-dtype) COMPREPLY=($(compgen -W "auto f32 f16 bf16 int8" -- "$cur")); return ;;
	inspect:--kv-cache-bytes|inspect:--kv-cache-memory-bytes) return ;;
	inspect:--state-cache-bytes) return ;;
	inspect:--state-cache-type) return ;;
	inspect:--window) return ;;
	inspect:-c|inspect:--max-model-len|inspect:--ctx-size) return ;;
	kernels:--isa) COMPREPLY=($(compgen -W "c avx2 avx_vnni avx512 avx512_vnni avx512_bf16" -- "$cur")); return ;;
	handset:--table) return ;;
	handset:-N|handset:--length) return ;;
	handset:--bits) return ;;
	handset:--circuit) return ;;
	handset:--values) return ;;
	handset:--type) return ;;
	esac
	case ${COMP_WORDS[1]} in
	run) words="-p --prompt -f --file --system --raw --chat-template-file --json --logprobs --trace-state --feed --verbose-prompt -n --max-tokens --n-predict --temp --temperature --top-k --top-p --min-p --repetition-penalty --repeat-penalty --presence-penalty --frequency-penalty --logit-bias -s --seed --stop --stop-token-ids --min-tokens --ignore-eos --json-schema --json-object --regex --choice --grammar --add --scale-head -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -c --max-model-len --ctx-size -h --help --version" ;;
	chat) words="--system --chat-template-file -n --max-tokens --n-predict --temp --temperature --top-k --top-p --min-p --repetition-penalty --repeat-penalty --presence-penalty --frequency-penalty --logit-bias -s --seed --stop --stop-token-ids --min-tokens --ignore-eos -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -c --max-model-len --ctx-size -h --help --version" ;;
	tokenize) words="--no-bos --no-parse-special -m --model -h --help --version" ;;
	detokenize) words="-m --model -h --help --version" ;;
	template) words="--chat-template-file -m --model -h --help --version" ;;
	logits) words="--tokens -o --output --chunk --beside -s --seed -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -c --max-model-len --ctx-size -h --help --version" ;;
	perplexity) words="-f --file -c --ctx-size --max-model-len -b --batch-size -ub --ubatch-size --chunks --json -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -h --help --version" ;;
	taps) words="-p --prompt --tokens -o --output --list --at --attention --kv --state --rows --add --scale-head -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -c --max-model-len --ctx-size -h --help --version" ;;
	bench) words="-p --n-prompt -n --n-gen -d --n-depth -np --parallel --n-parallel -ctk --cache-type-k -ctv --cache-type-v -r --repetitions -b --batch-size -ub --ubatch-size -o --output --json --no-warmup -s --seed -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -h --help --version" ;;
	inspect) words="--json -m --model -t --threads --device --device-memory-bytes --isa --gemm --kv-cache-dtype --kv-cache-bytes --kv-cache-memory-bytes --state-cache-bytes --state-cache-type --window --deterministic --enable-deterministic-inference -c --max-model-len --ctx-size -h --help --version" ;;
	kernels) words="--isa --json -h --help --version" ;;
	handset) words="-o --output --table -N --length --bits --recency --non-negative --circuit --values --type -h --help --version" ;;
	*) return ;;
	esac
	if [ "${cur#-}" != "$cur" ]; then
		COMPREPLY=($(compgen -W "$words" -- "$cur"))
	else
		COMPREPLY=($(compgen -f -- "$cur"))
	fi
}
complete -o filenames -F _bobbin bobbin
