# Completion of dladm for bash: source <(dladm completion bash)
#
# The first line of the answer of dladm is "words" or "files". With "words" each further line is a word, a tab, and a text about it.
_dladm() {
  local line=${COMP_LINE:0:COMP_POINT} kind word
  local -a words
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  local last=${words[-1]}
  # bash completes the part of a word behind its last = or colon.
  local before=${last%"${last##*[=:]}"}
  COMPREPLY=()
  {
    IFS= read -r kind
    if [[ $kind == files ]]; then
      compopt -o default
      return
    fi
    while IFS=$'\t' read -r word _; do
      COMPREPLY+=("${word#"$before"}")
    done
  } < <("$1" completion -- bash "${words[@]:1}" 2>/dev/null)
  if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=,] ]]; then
    compopt -o nospace
  fi
}
complete -F _dladm dladm
