"""Sentences that an exported model is checked on where no rows are given: short and long, in several scripts."""

SENTENCES = (
    "The bus to the market leaves at nine.",
    "Yes!",
    "Nobody had told the engineers that the bridge would be opened two weeks early, so they worked through the night "
    "and were still painting the railings when the mayor arrived with her scissors.",
    "Die Ärztin erklärte den Eltern in Ruhe, warum das Fieber am dritten Tag wieder steigen kann.",
    "Le prix du blé a baissé de 12 % depuis le mois de mars.",
    "¿Quién ganó el partido de anoche?",
    "Watoto walicheza mpira uwanjani mpaka jua likazama.",
    "Учёные нашли на дне озера следы древнего поселения.",
    "Η κυβέρνηση ανακοίνωσε νέα μέτρα για τα νησιά.",
    "وصل القطار متأخراً بسبب الأمطار الغزيرة.",
    "किसानों ने इस साल पहले से ज़्यादा चावल उगाया।",
    "รถไฟฟ้าสายใหม่จะเปิดให้บริการในปีหน้า",
    "图书馆星期天不开门，但可以在网上还书。",
    "新しい薬は、臨床試験で高い効果を示した。",
    "Çocuklar için yazılmış bu kitap 30 dile çevrildi.",
    "Tôi chưa từng thấy ngọn núi nào cao như thế.",
)
