"""Words and signs that tell something about a request's difficulty, in a score of languages.

Lower case. Languages that put spaces between words and inflect little are looked up as whole words. Others
(Chinese, Japanese, Korean, Thai) have no word boundaries, or (Slavic languages, Arabic, Hindi) so many endings
that stems are searched as substrings, only in texts that contain a character of that script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

REASONING, MATHS, CODE = "reasoning words", "maths", "code"
QUANTITIES, NEGATION = "related quantities", "negation"
WRITING, SIMPLE = "open-ended writing", "simple task"

_WORDS: Mapping[str, str] = {
    REASONING: """
        prove disprove derive deduce justify analyze analyse compare evaluate assess critique contrast
        diagnose optimize optimise architect rigorous rigorously puzzle riddle paradox infer implies premise
        premises tradeoff tradeoffs trade-off trade-offs counterexample counterfactual
        beweise beweis begründe analysiere vergleiche bewerte herleite
        démontre démontrer prouve prouver analyser analyse justifie justifier compare
        demuestra demostrar analiza compara justifica deduce evalúa
        dimostra analizza confronta demonstre justifique avalie
        bewijs analyseer vergelijk udowodnij przeanalizuj porównaj
        buktikan bandingkan kanıtla karşılaştır
    """,  # noqa: RUF001 - Turkish
    MATHS: """
        calculate compute solve determine simplify estimate probability equation equations theorem lemma matrix
        integral integrals derivative polynomial eigenvalue integer integers triangle algebra calculus
        logarithm modulo sqrt combinatorics permutation velocity maximum minimum find express smallest largest
        berechne gleichung wahrscheinlichkeit ableitung löse calculer calcule équation probabilité dérivée
        calcula resuelve ecuación probabilidad calcola equazione probabilità equação probabilidade
        oblicz równanie hitung hesapla denklem
    """,
    CODE: """
        code python javascript typescript java rust golang c++ sql regex html bash bug debug refactor compile
        implement function program algorithm array arrays linked string tree api async unittest
        kubernetes dockerfile stacktrace traceback recursion deadlock complexity
        programmiere implementiere funktion implémente implementa fonction función funzione função
        algorithme algoritmo programma
    """,
    QUANTITIES: """
        half third quarter twice thrice times double triple percent percentage more less fewer than remaining
        rest total left ratio rate average altogether equal equally another
        hälfte doppelt drittel prozent mehr weniger insgesamt durchschnitt übrig
        moitié double tiers pourcent plus moins reste moyenne
        mitad doble tercio ciento menos resto promedio metà doppio meno metade dobro média
        helft dubbel połowa dwa więcej mniej setengah dua lebih yarısı fazla
    """,  # noqa: RUF001 - Turkish
    NEGATION: """
        not no except false incorrect never without cannot least nor none neither unlikely
        nicht kein keine falsch außer niemals pas jamais sauf faux aucun nunca excepto falso ninguno
        não exceto non mai eccetto niet geen nie nigdy tidak bukan kecuali değil hariç
    """,
    WRITING: """
        story stories poem poetry haiku limerick essay email blog headline slogan imagine pretend persona
        captivating vivid lyrics tweet caption roleplay embody brainstorm ideas
        geschichte gedicht aufsatz histoire poème rédige historia cuento poema storia poesia história
        verhaal gedicht opowiadanie wiersz cerita puisi hikaye şiir
    """,
    SIMPLE: """
        hi hello hey thanks thank translate spell synonym
        hallo danke übersetze bonjour merci traduis hola gracias traduce ciao grazie traduci
        olá obrigado traduza merhaba teşekkürler halo terima
    """,
}

LEXICON: Mapping[str, str] = {
    word: kind for kind, words in _WORDS.items() for word in words.split()
}
"""Whole words to their kind."""

MARKS: tuple[tuple[str, str], ...] = (
    ("\\frac", MATHS),
    ("\\sqrt", MATHS),
    ("```", CODE),
    ("def ", CODE),
    ("();", CODE),
    ("</", CODE),
)
"""Signs that are searched as substrings in every text."""

_STEMS: Mapping[str, Mapping[str, str]] = {
    "\u0400-\u04ff": {  # Cyrillic
        REASONING: "докаж довед проанализир проаналізу сравни порівня обоснуй обґрунту выведи",
        MATHS: "вычисли обчисли решите реши уравнен рівнян вероятност ймовірн интеграл інтеграл",
        CODE: "реализуй функци функці алгоритм программ",
        QUANTITIES: "половин вдвое втрое процент больше меньше остал всего средн більше менше",
        NEGATION: " не  нет  кроме ",
        WRITING: "рассказ стихотвор сочини історі вірш представь",
        SIMPLE: "привет спасибо переведи привіт дякую",
    },
    "\u0590-\u06ff": {  # Hebrew, Arabic, Persian
        REASONING: "أثبت برهن حلل قارن علل הוכח נתח השווה ثابت تحلیل",
        MATHS: "احسب معادلة احتمال تكامل חשב משוואה הסתברות محاسبه معادله",
        CODE: "خوارزمية دالة برنامج كود אלגוריתם פונקציה الگوریتم تابع",
        QUANTITIES: "نصف ضعف ثلث أكثر أقل مجموع متوسط חצי כפול יותר פחות بیشتر کمتر",
        NEGATION: "ليس غير باستثناء אינו למעט نیست",
        WRITING: "قصة قصيدة تخيل סיפור שיר داستان شعر",
        SIMPLE: "مرحبا شكرا ترجم שלום תודה سلام",
    },
    "\u0900-\u0dff": {  # Devanagari, Bengali and other Indic scripts
        REASONING: "सिद्ध साबित विश्लेषण तुलना প্রমাণ বিশ্লেষণ তুলনা",
        MATHS: "गणना समीकरण प्रायिकता हल গণনা সমীকরণ সম্ভাবনা",
        CODE: "एल्गोरिदम फ़ंक्शन प्रोग्राम कोड অ্যালগরিদম",
        QUANTITIES: "आधा आधे दोगुन तिगुन प्रतिशत अधिक ज़्यादा कम कुल शेष औसत অর্ধেক দ্বিগুণ শতাংশ মোট",
        NEGATION: "नहीं गलत सिवाय না নয়",
        WRITING: "कहानी कविता कल्पना গল্প কবিতা",
        SIMPLE: "नमस्ते धन्यवाद अनुवाद ধন্যবাদ",
    },
    "\u0e00-\u0e7f": {  # Thai
        REASONING: "พิสูจน์ วิเคราะห์ เปรียบเทียบ",
        MATHS: "คำนวณ สมการ ความน่าจะเป็น",
        CODE: "โปรแกรม อัลกอริทึม ฟังก์ชัน โค้ด",
        QUANTITIES: "ครึ่ง สองเท่า มากกว่า น้อยกว่า ทั้งหมด เหลือ เฉลี่ย",
        NEGATION: "ไม่ใช่ ยกเว้น",
        WRITING: "นิทาน บทกวี จินตนาการ",
        SIMPLE: "สวัสดี ขอบคุณ แปล",
    },
    "\u3040-\u30ff\u3400-\u9fff": {  # Chinese, Japanese
        REASONING: "证明 證明 分析 推导 比较 比較 論証 証明 解释为什么",
        MATHS: "计算 計算 求解 方程 概率 機率 積分 积分 確率 整数",
        CODE: "代码 函数 算法 程序 コード 関数 アルゴリズム プログラム",
        QUANTITIES: "一半 两倍 三倍 百分 剩 一共 总共 平均 倍 半分 残り 合計 より多",
        NEGATION: "不正确 错误 不是 除了 不属于 誤っ ない",
        WRITING: "故事 写一首 诗 想象 作文 物語 詩を",
        SIMPLE: "你好 谢谢 翻译 翻譯 こんにちは ありがとう 翻訳",
    },
    "\uac00-\ud7af": {  # Korean
        REASONING: "증명 분석 비교",
        MATHS: "계산 방정식 확률 적분",
        CODE: "코드 함수 알고리즘 프로그램",
        QUANTITIES: "절반 두 배 퍼센트 남은 모두 평균 총",
        NEGATION: "아닌 않은 제외",
        WRITING: "이야기 상상",
        SIMPLE: "안녕 감사 번역",
    },
}

SCRIPTS: tuple[tuple[re.Pattern[str], tuple[tuple[str, str], ...]], ...] = tuple(
    (
        re.compile(f"[{characters}]"),
        tuple((stem, kind) for kind, stems in kinds.items() for stem in stems.split()),
    )
    for characters, kinds in _STEMS.items()
)
"""A pattern that finds a character of a script, and the stems to search where it does."""
