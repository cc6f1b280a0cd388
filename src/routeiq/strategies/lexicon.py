"""Words and signs that tell something about a request's difficulty, in several languages.

Lower case, whole words; scripts without spaces between words are searched as substrings instead.
"""

from __future__ import annotations

from collections.abc import Mapping

REASONING, MATHS, CODE = "reasoning words", "maths", "code"
STEPS, SIMPLE = "several steps", "simple task"

_WORDS: Mapping[str, str] = {
    REASONING: """
        prove disprove derive deduce justify analyze analyse critique compare tradeoff tradeoffs trade-off
        trade-offs optimize optimise architect diagnose rigorous rigorously puzzle riddle paradox
        counterexample counterfactual
        beweise beweis begründe analysiere vergleiche bewerte herleite
        démontre démontrer prouve prouver analyser justifie justifier
        demuestra demostrar analiza compara justifica deduce evalúa
        dimostra analizza confronta demonstre justifique avalie
        докажи докажите проанализируй проанализируйте сравни сравните обоснуй выведи
        bewijs analyseer vergelijk udowodnij przeanalizuj porównaj
        buktikan bandingkan
    """,
    MATHS: """
        theorem lemma integral integrals integrable derivative equation equations polynomial matrix
        eigenvalue eigenvalues probability calculate compute solve modulo algebra calculus logarithm sqrt
        percent percentage ratio combinatorics permutation velocity
        berechne gleichung wahrscheinlichkeit ableitung löse calculer calcule équation probabilité dérivée
        calcula resuelve ecuación probabilidad calcola equazione probabilità equação probabilidade
        вычисли вычислите реши решите уравнение вероятность интеграл oblicz równanie hitung
    """,
    CODE: """
        code python javascript typescript rust golang c++ sql regex bug debug refactor compile implement
        api async unittest kubernetes dockerfile stacktrace traceback recursion deadlock algorithm
        programmiere implementiere implémente implementa algorithme algoritmo
        реализуй код алгоритм
    """,
    STEPS: """
        steps step-by-step firstly secondly thirdly finally respectively assuming suppose constraint
        constraints schritte étapes pasos passi passos шаги пошагово
    """,
    SIMPLE: """
        hi hello hey thanks thank translate spell synonym
        hallo danke übersetze bonjour merci traduis hola gracias traduce ciao grazie traduci
        olá obrigado traduza привет спасибо переведи
    """,
}

LEXICON: Mapping[str, str] = {
    word: kind for kind, words in _WORDS.items() for word in words.split()
}

_MARKS = (
    (MATHS, ("\\frac", "\\sqrt", "$$", "^")),
    (CODE, ("```", "def ", "();", "</")),
    (STEPS, ("step by step", "\n2.", "\n- ")),
)
_SCRIPTS = (
    (REASONING, "证明 分析 推导 比较 論証 証明 比較 증명 분석 비교"),
    (MATHS, "计算 方程 概率 積分 計算 確率 계산 방정식 √ ∑ ∫ ≤ ∈"),
    (CODE, "代码 函数 算法 コード 関数 アルゴリズム 코드 함수 알고리즘"),
    (STEPS, "步骤 一步一步 ステップ 手順 단계"),
    (SIMPLE, "你好 谢谢 翻译 こんにちは ありがとう 翻訳 안녕 번역"),
)
SUBSTRINGS: Mapping[bool, tuple[tuple[str, tuple[str, ...]], ...]] = {
    True: _MARKS,
    False: (*_MARKS, *((kind, tuple(signs.split())) for kind, signs in _SCRIPTS)),
}
"""By whether the text is ASCII."""
